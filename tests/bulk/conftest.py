import pytest

from tests.support.archives import start_bulk


@pytest.fixture
def start():
    """Start runs of bulk; none outlives its test."""
    started = []

    def start_one(model, *arguments):
        started.append(start_bulk(model, *arguments))
        return started[-1]

    yield start_one
    for run in started:
        run.kill()
        run.communicate()

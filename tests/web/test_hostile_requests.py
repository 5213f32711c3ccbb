import random

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing import ImageError, decode
from tests.support.hostile import FORM, bombs, damage, form, seeds
from web.messages import ERRORS

STATUSES = {200} | {message.status for message in ERRORS.values() if message.status < 500}
SEEDS = seeds()
BOMBS = bombs()


def post(server, body):
    return requests.post(server.url + "/predict", data=body, headers={"Content-Type": FORM}, timeout=60)


@pytest.mark.parametrize("name", SEEDS)
def test_every_kind_of_valid_file_is_answered(shipped_server, name):
    assert post(shipped_server, form(SEEDS[name])).status_code == 200


def test_there_are_at_least_fifty_kinds_of_bomb():
    assert len(BOMBS) >= 50


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_its_first_picture_is_answered_and_memory_stays_flat(shipped_server, name):
    shipped_server.reset_peak()
    rest = shipped_server.memory_mb()
    answer = post(shipped_server, BOMBS[name])
    assert answer.status_code in STATUSES, answer.text
    assert shipped_server.memory_mb("VmHWM") - rest < 96 + 3 * len(BOMBS[name]) / 1e6


def test_damaged_files_and_forms_get_the_errors_of_the_contract(shipped_server):
    chance = random.Random(1)  # noqa: S311 the same files again
    good = list(SEEDS.values())
    for _ in range(500):
        one, other = chance.choice(good), chance.choice(good)
        damaged = damage(form(one), form(other), chance) if chance.random() < 0.2 else form(damage(one, other, chance))
        answer = post(shipped_server, damaged)
        assert answer.status_code in STATUSES, answer.text
        assert answer.json()["success"] in (0, 1)


@given(st.sampled_from(sorted(SEEDS)), st.integers(0, 10_000), st.binary(max_size=40))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_good_file_with_changed_bytes_is_decoded_or_refused_with_a_code(name, place, written):
    data = SEEDS[name]
    place %= len(data)
    try:
        image, _ = decode(data[:place] + written + data[place + len(written) :], 50_000_000)
    except ImageError as error:
        assert error.code in ERRORS
    else:
        assert image.mode in ("L", "RGB")


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_decoded_or_refused_with_a_code(data):
    for beginning in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"RIFF\0\0\0\0WEBP", b"BM"):
        try:
            decode(beginning + data, 50_000_000)
        except ImageError as error:
            assert error.code in ERRORS

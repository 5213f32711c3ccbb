import requests

from benchmarks.radiographs import faults, outcome, sample

EACH = 20


def test_real_radiographs_of_every_label_are_answered_by_the_contract(shipped_server, data_dir):
    said = {}
    for path, label in sample(data_dir, EACH):
        response = requests.post(shipped_server.url + "/predict", files={"image": path.read_bytes()}, timeout=60)
        assert faults(response) == [], path.name
        said.setdefault(label, []).append(outcome(response.json()))
    assert len(said) >= 3
    assert all(len(outcomes) >= EACH / 2 for outcomes in said.values())


def test_photographs_and_chest_films_are_mostly_neither(shipped_server, data_dir):
    others = [path for path, label in sample(data_dir, 40) if label == "other"]
    answers = [
        requests.post(shipped_server.url + "/predict", files={"image": path.read_bytes()}, timeout=60).json()
        for path in others
    ]
    assert sum(answer["success"] for answer in answers) <= 0.1 * len(answers)

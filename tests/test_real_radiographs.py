import requests

from benchmarks.radiographs import faults, outcome, sample

EACH = 20


def test_real_radiographs_of_every_label_get_answers_that_follow_the_contract(shipped_server, data_dir):
    outcomes = {}
    for path, label in sample(data_dir, EACH):
        response = requests.post(shipped_server.url + "/predict", files={"image": path.read_bytes()}, timeout=60)
        assert faults(response) == [], path.name
        outcomes.setdefault(label, []).append(outcome(response.json()))
    assert len(outcomes) >= 3
    assert all(len(of_label) >= EACH / 2 for of_label in outcomes.values())


def test_most_photographs_and_chest_films_are_answered_with_neither_class(shipped_server, data_dir):
    others = [path for path, label in sample(data_dir, 40) if label == "other"]
    answers = [
        requests.post(shipped_server.url + "/predict", files={"image": path.read_bytes()}, timeout=60).json()
        for path in others
    ]
    assert sum(answer["success"] for answer in answers) <= 0.1 * len(answers)

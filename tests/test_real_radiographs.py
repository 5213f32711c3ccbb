import csv

import requests

EACH = 20
KNOWN = ("fisura", "fractura")


def sample(folder, each):
    """Yield up to `each` images of every label, spread evenly over the manifest's rows."""
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for label in sorted({row["label"] for row in rows}):
        of_label = [row["path"] for row in rows if row["label"] == label]
        step = max(1, len(of_label) // each)
        yield from ((folder / path, label) for path in of_label[::step][:each])


def outcome(answer):
    return answer["predictedClass"] if answer["success"] else "none"


def assert_contract(response):
    assert response.status_code == 200, response.text
    answer = response.json()
    hundredths = [round(entry["probability"] * 100) for entry in answer["allProbabilities"]]
    assert sum(hundredths) == 10_000
    assert round(answer["confidence"] * 100) <= max(hundredths)
    if answer["success"]:
        assert answer["predictedClass"] == KNOWN[hundredths.index(max(hundredths))]


def test_real_radiographs_of_every_label_get_answers_that_follow_the_contract(shipped_server, data_dir):
    outcomes = {}
    for path, label in sample(data_dir, EACH):
        response = requests.post(shipped_server.url + "/predict", files={"image": path.read_bytes()}, timeout=60)
        assert_contract(response)
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

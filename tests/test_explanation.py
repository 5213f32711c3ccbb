import base64
import io

import numpy as np
import pytest
from PIL import Image

import explanation
from explanation import BATCH, NOTHING, Question, draw, find_relevance
from model_loader import Outputs
from preprocessing import content_of, prepare
from tests.support.phantoms import phantom

INPUT = (96, 96)
TALL, WIDE = (1200, 800), (400, 1000)  # (height, width)


def looks_at_the_upper_left(images):
    """The fake: the probability of the second class is the brightness of a tall radiograph's upper left corner."""
    corner = images[:, :24, 16:40].mean(axis=(1, 2, 3))
    return Outputs(np.stack([1 - corner, corner], axis=1), None)


def explained(
    size=TALL, resize="letterbox", predict=looks_at_the_upper_left, evidence=None, give_way=lambda: None, scale=None
):
    image = Image.new("L", size[::-1], 180)
    image.paste(60, (0, size[0] // 2, *size[::-1]))
    inputs = prepare(image, INPUT, 1, "unit", resize)
    outputs = Outputs(predict(inputs).probabilities, evidence)
    content = content_of(size, INPUT, resize)
    return draw(find_relevance(predict, Question(inputs, outputs, content, 1, scale), give_way), image, 1)


def evidence_at(row, column, rows=12, columns=12):
    evidence = np.full((1, rows, columns, 2), -7, np.float32)
    evidence[0, row, column, 1] = 3
    evidence[0, 0, 0, 0] = 99  # of the other class
    return evidence


def spots(*values, level=-7.0):
    """Evidence of 12 by 12 cells: `level`, but for spots of (row, column, value), each two by two cells."""
    evidence = np.full((1, 12, 12, 2), level, np.float32)
    for row, column, value in values:
        evidence[0, row : row + 2, column : column + 2, 1] = value
    return evidence


def opacity(found):
    return np.asarray(found.map.convert("RGBA"))[..., 3]


def middle(box):
    return box.x + box.width / 2, box.y + box.height / 2


def test_the_evidence_of_the_likeliest_class_is_the_map():
    found = explained((960, 960), evidence=evidence_at(2, 9))
    assert found.method == "evidence"
    assert found.peak == pytest.approx((9.5 / 12, 2.5 / 12), abs=0.01)


@pytest.mark.parametrize(("size", "row", "column"), [(TALL, 1, 4), (TALL, 10, 6), (WIDE, 5, 1), (WIDE, 6, 11)])
def test_padding_is_cut_off_so_that_the_map_covers_the_radiograph(size, row, column):
    content = content_of(size, INPUT, "letterbox")
    x = ((column + 0.5) * 8 - content.left) / content.width
    y = ((row + 0.5) * 8 - content.top) / content.height
    found = explained(size, evidence=evidence_at(row, column))
    assert abs(found.peak[0] - x) <= 4 / content.width  # within its cell
    assert abs(found.peak[1] - y) <= 4 / content.height
    left, top, width, height, _ = found.boxes[0]
    assert left <= x <= left + width
    assert top <= y <= top + height
    assert width * height < 0.1


def test_evidence_in_the_padding_is_not_shown():
    found = explained(WIDE, evidence=evidence_at(0, 5))
    assert (found.peak, found.boxes) == (None, ())


def test_a_stretched_image_has_no_padding_to_cut_off():
    found = explained(WIDE, "stretch", evidence=evidence_at(0, 5))
    assert found.peak == pytest.approx((5.5 / 12, 0.5 / 12), abs=0.05)


def test_occlusion_finds_the_corner_that_the_network_looks_at():
    found = explained()
    assert found.method == "occlusion"
    assert found.peak[0] < 0.4
    assert found.peak[1] < 0.25
    left, top, width, height, _ = found.boxes[0]
    assert (left, top) == (0, 0)
    assert width < 0.7
    assert height < 0.5


def test_a_network_without_any_evidence_has_no_peak():
    found = explained(predict=lambda images: Outputs(np.full((len(images), 2), 0.5, np.float32), None))
    assert (found.peak, found.boxes) == (None, ())
    assert opacity(found).max() == 0


def test_occlusion_gives_way_before_each_small_batch():
    calls = []

    def counted(images):
        calls.append(len(images))
        return looks_at_the_upper_left(images)

    explained(predict=counted, give_way=lambda: calls.append("way"))
    asked = [call for call in calls[1:] if call != "way"]
    assert max(asked) == BATCH <= 8
    assert sum(asked) == 4 * 3 + 8 * 5
    assert calls[1::2] == ["way"] * len(asked)


def test_occlusion_stops_in_time(monkeypatch):
    monkeypatch.setattr(explanation, "LIMIT_SECONDS", 0.0)
    calls = []
    explained(predict=lambda images: calls.append(len(images)) or looks_at_the_upper_left(images))
    assert sum(calls) <= 1 + BATCH


@pytest.mark.parametrize(("size", "shown"), [((2048, 1024), (1024, 512)), ((480, 360), (480, 360))])
def test_both_pictures_have_the_same_size_of_at_most_1024(size, shown):
    found = explanation.answer(draw(NOTHING, phantom(size=size), 1), "caveat")
    assert list(found) == ["image", "map", "peak", "box", "boxes", "method", "caveat"]
    for name, media in (("image", "jpeg"), ("map", "png")):
        kind, data = found[name].split(",")
        assert kind == f"data:image/{media};base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (picture.height, picture.width) == shown


def test_the_picture_has_the_colours_that_the_network_sees():
    colour = Image.new("RGB", (64, 64), (200, 0, 0))
    assert draw(NOTHING, colour, 1).image.mode == "L"
    assert draw(NOTHING, colour, 3).image.mode == "RGB"


def test_the_map_is_transparent_where_nothing_was_found_and_opaque_at_the_peak():
    found = explained((960, 960), evidence=evidence_at(2, 9))
    assert opacity(found)[800, 100] == 0
    assert opacity(found)[200, 760] > 150


@pytest.mark.parametrize(("scale", "strengths"), [(None, (1, 9 / 12)), ((-2, 4), (1, 4 / 6))])
def test_each_strong_spot_has_a_box_the_strongest_first(scale, strengths):
    found = explained((960, 960), evidence=spots((8, 2, 2), (2, 8, 5)), scale=scale)
    first, second = found.boxes
    assert middle(first) == pytest.approx((9 / 12, 3 / 12), abs=0.02)
    assert middle(second) == pytest.approx((3 / 12, 9 / 12), abs=0.02)
    assert (first.strength, second.strength) == pytest.approx(strengths, abs=0.02)
    assert found.peak == pytest.approx(middle(first), abs=0.03)


def test_two_peaks_with_strong_evidence_between_them_share_a_box():
    (box,) = explained((960, 960), evidence=spots((5, 2, 5), (5, 4, 4.5), (5, 6, 5)), scale=(-2, 4)).boxes
    assert box.x <= 3 / 12
    assert box.x + box.width >= 7 / 12


def test_there_are_at_most_five_boxes_and_none_for_spots_of_less_than_half_the_strength():
    many = spots(*((row, column, 5) for row in (0, 5, 10) for column in (0, 5, 10)))
    assert len(explained((960, 960), evidence=many, scale=(-2, 4)).boxes) == 5
    weak = spots((2, 2, 4), (8, 8, 0.5))
    assert len(explained((960, 960), evidence=weak, scale=(-2, 4)).boxes) == 1


@pytest.mark.parametrize("value", [-7.0, -2.0, 3.0, 9.0])
def test_uniform_evidence_has_no_map_without_a_scale(value):
    found = explained((960, 960), evidence=spots(level=value))
    assert (found.peak, found.boxes, opacity(found).max()) == (None, (), 0)


def test_on_an_absolute_scale_nothing_is_drawn_where_all_evidence_is_below_it():
    below = spots((2, 8, -3), (8, 2, -2.5))
    assert len(explained((960, 960), evidence=below).boxes) == 2  # relative to the rest they stand out
    found = explained((960, 960), evidence=below, scale=(-2, 4))
    assert (found.peak, found.boxes, opacity(found).max()) == (None, (), 0)
    assert explanation.answer(found, "caveat")["box"] is None
    assert explanation.answer(found, "caveat")["boxes"] == []


def test_there_is_a_box_exactly_where_the_map_is_drawn():
    for value in np.linspace(-2, 0, 21):
        found = explained((960, 960), evidence=spots((5, 5, value)), scale=(-2, 4))
        assert (len(found.boxes) == 1) == (opacity(found).max() > 0) == (found.peak is not None)


def test_on_an_absolute_scale_the_map_is_as_strong_as_the_evidence():
    weak, strong, beyond = (explained((960, 960), evidence=spots((5, 5, x)), scale=(-2, 4)) for x in (0.5, 3.5, 30))
    assert 0 < opacity(weak).max() < 0.5 * opacity(strong).max()
    assert beyond.boxes[0].strength == 1
    assert opacity(beyond).max() == explanation.MAX_ALPHA
    whole = explained((960, 960), evidence=spots(level=4), scale=(-2, 4))
    assert opacity(whole).min() == explanation.MAX_ALPHA
    assert whole.boxes[0] == (0, 0, 1, 1, 1)


def test_the_box_of_an_answer_is_that_of_the_strongest_spot():
    body = explanation.answer(explained((960, 960), evidence=spots((8, 2, 2), (2, 8, 5))), "caveat")
    assert [list(box) for box in body["boxes"]] == [["x", "y", "width", "height", "strength"]] * 2
    assert body["box"] == {side: body["boxes"][0][side] for side in ("x", "y", "width", "height")}

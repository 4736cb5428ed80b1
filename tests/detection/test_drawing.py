"""Objects drawn into their image."""

import numpy as np
import pytest
from cnnlib.detection import Detections, MaskPart, draw
from cnnlib.detection.drawing import _in_ascii

pytest.importorskip("PIL.Image", reason="Pillow draws")

GREY = 90  # of the ground


def ground(channels=3, size=(120, 160)):
    return np.full((channels, *size), GREY, np.uint8)


def found(*boxes, classes=None, size=(120, 160), **more):
    classes = list(range(len(boxes))) if classes is None else classes
    scores = np.linspace(0.9, 0.5, len(boxes))
    return Detections(
        np.array(boxes, float).reshape(-1, 4),
        scores,
        np.array(classes, int),
        ("cat", "dog", "cow"),
        size,
        **more,
    )


def changed(picture):
    return (picture != GREY).any(axis=0)


def test_nothing_is_drawn_of_no_objects():
    image = ground()
    picture = draw(image, found())
    np.testing.assert_array_equal(picture, image)
    assert not np.shares_memory(picture, image)
    assert picture.flags.c_contiguous


@pytest.mark.parametrize("channels", [1, 3])
def test_a_box_has_a_frame_and_a_name_above_it(channels):
    image = ground(channels)
    picture = draw(image, found((40, 50, 100, 110)))
    assert picture.shape == (3, 120, 160)
    assert picture.dtype == np.uint8
    there = changed(picture)
    frame = np.zeros((120, 160), bool)
    frame[50:111, 40:101] = True
    frame[51:110, 41:100] = False
    assert there[frame].all()
    assert not there[51:110, 41:100].any()
    label = there[:50]
    assert label.any()
    rows, columns = np.nonzero(label)
    assert rows.min() > 30
    assert columns.min() == 40
    assert not there[:, 101:].any()
    assert (image == GREY).all()


def test_a_box_at_the_upper_edge_has_its_name_inside():
    there = changed(draw(ground(), found((140, 0, 160, 120))))
    assert there[:20, :140].any()  # it is moved to the left, where there is room
    assert there[2:12, 142:158].all()


def test_classes_have_colours_of_their_own():
    picture = draw(ground(), found((10, 60, 30, 80), (60, 60, 80, 80), (110, 60, 130, 80), classes=[0, 1, 0]))
    first, second, third = (tuple(picture[:, 80, x]) for x in (20, 70, 120))
    assert first == third != second


def test_the_surest_lies_on_top():
    picture = draw(ground(), found((40, 40, 80, 80), (40, 60, 80, 110)))
    assert tuple(picture[:, 70, 40]) == tuple(picture[:, 45, 40]) != tuple(picture[:, 100, 40])


def test_masks_shine_through():
    inside = np.zeros((20, 20), bool)
    inside[5:15, 5:15] = True
    picture = draw(ground(), found((40, 60, 60, 80), mask_parts=(MaskPart(60, 40, inside),)))
    colour = picture[:, 80, 50].astype(int)  # of the frame
    np.testing.assert_array_equal(picture[:, 70, 50], np.floor((GREY + colour) / 2 + 0.5))
    assert changed(picture)[65:75, 45:55].all()
    assert not changed(picture)[62:65, 42:58].any()


class TestKeyPoints:
    def test_of_which_some_are_not_seen(self):
        points = np.array([[[50.0, 70.0, 0.9], [60.0, 80.0, 0.4], [70.0, 90.0, 0.5], [np.nan, 1.0, 0.9]]])
        there = changed(draw(ground(), found((40, 60, 100, 110), keypoints=points)))
        assert there[70, 50]
        assert not there[78:83, 58:63].any()
        assert there[90, 70]

    def test_without_a_visibility(self):
        points = np.array([[[50.0, 70.0], [60.0, 80.0]]])
        there = changed(draw(ground(), found((40, 60, 100, 110), keypoints=points)))
        assert there[70, 50]
        assert there[80, 60]

    def test_those_of_people_are_joined(self):
        """The wrist (9) and the elbow (7), but only where both are seen."""
        points = np.zeros((1, 17, 3))
        points[0, 7], points[0, 9] = (50, 90, 1), (90, 90, 1)
        box = (40, 60, 100, 110)
        assert changed(draw(ground(), found(box, keypoints=points)))[90, 50:91].all()
        points[0, 7, 2] = 0
        assert not changed(draw(ground(), found(box, keypoints=points)))[90, 50:80].any()
        points = np.array([[[50.0, 90.0, 1.0], [90.0, 90.0, 1.0]]])
        assert not changed(draw(ground(), found(box, keypoints=points)))[90, 60:80].any()


def test_names_in_the_letters_of_the_font():
    assert _in_ascii("café Zürich 0.90") == "cafe Zurich 0.90"
    assert _in_ascii("\u732b") == "\\u732b"
    assert _in_ascii("a\nb") == "a\\nb"


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (ground(size=(120, 161)), ValueError, r"image must be \(3, 120, 160\) or \(1, 120, 160\), got shape"),
        (ground(2), ValueError, r"image must be .*, got shape \(2, 120, 160\)"),
        (ground().astype(float), TypeError, "image must be an array of uint8"),
        (ground()[0], ValueError, r"image must be \(C, H, W\)"),
    ],
)
def test_refusals(image, error, message):
    with pytest.raises(error, match=f"^draw: {message}"):
        draw(image, found())

"""Frames, boxes of outputs, suppression and masks against their loops, and by hand."""

import tracemalloc

import numpy as np
import pytest
from cnnlib.detection import (
    MaskPart,
    MaskParts,
    Placement,
    decode,
    letterbox,
    mask_of,
    non_max_suppression,
)
from cnnlib.naive.detection import decode_naive, letterbox_naive, mask_of_naive, non_max_suppression_naive


def peak_bytes(call):
    """The most memory that a call takes at a time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestLetterbox:
    @pytest.mark.parametrize(
        ("image", "size"),
        [
            ((5, 7), (8, 8)),  # odd frames
            ((7, 5), (8, 8)),
            ((12, 9), (4, 6)),
            ((1, 30), (8, 8)),  # no side becomes 0
            ((300, 1), (16, 8)),
            ((8, 8), (8, 8)),
            ((3, 3), (9, 12)),
            ((1, 1), (1, 1)),
        ],
    )
    @pytest.mark.parametrize("channels", [1, 3])
    def test_has_the_bits_of_the_loop(self, image, size, channels, rng):
        pixels = rng.integers(0, 256, (channels, *image), np.uint8)
        framed, placement = letterbox(pixels, size)
        want, place = letterbox_naive(pixels, size)
        np.testing.assert_array_equal(framed, want)
        assert framed.dtype == np.uint8
        assert placement == place

    def test_random_sizes(self, rng):
        for _ in range(60):
            H, W, OH, OW = rng.integers(1, 24, 4).tolist()
            pixels = rng.integers(0, 256, (1, H, W), np.uint8)
            framed, placement = letterbox(pixels, (OH, OW))
            want, place = letterbox_naive(pixels, (OH, OW))
            np.testing.assert_array_equal(framed, want)
            assert placement == place

    def test_an_image_of_the_right_size_stays_as_it_is(self, rng):
        pixels = rng.integers(0, 256, (3, 6, 9), np.uint8)
        framed, placement = letterbox(pixels[:, ::-1], (6, 9))
        np.testing.assert_array_equal(framed, pixels[:, ::-1])
        assert placement == ((6, 9), (6, 9), (6, 9), 0, 0)

    def test_the_frame_is_grey_and_its_odd_row_lies_below(self):
        framed, placement = letterbox(np.full((1, 1, 4), 255, np.uint8), (4, 4))
        np.testing.assert_array_equal(framed[0, :, 0], [114, 255, 114, 114])
        assert (placement.top, placement.left) == (1, 0)

    def test_points_come_back(self):
        placement = letterbox(np.zeros((3, 200, 100), np.uint8), (64, 64))[1]
        assert placement == ((200, 100), (64, 64), (64, 32), 0, 16)
        corners = np.array([[16.0, 0.0], [48.0, 64.0], [32.0, 32.0]])
        np.testing.assert_array_equal(placement.in_image(corners), [[0, 0], [100, 200], [50, 100]])

    @pytest.mark.parametrize("image", [(1, 2, 500_000), (1, 500_000, 2), (3, 1000, 1000)])
    def test_takes_memory_for_the_result_alone(self, image):
        pixels = np.zeros(image, np.uint8)
        assert peak_bytes(lambda: letterbox(pixels, (32, 32))) < 200_000

    @pytest.mark.parametrize(
        ("image", "size", "error", "message"),
        [
            (
                np.zeros((3, 4, 4)),
                (8, 8),
                TypeError,
                "image must be an array of uint8, .* got an array of float64",
            ),
            ([[[1]]], (8, 8), TypeError, "image must be an array of uint8, .* got a list"),
            (
                np.zeros((4, 4), np.uint8),
                (8, 8),
                ValueError,
                r"image must be \(C, H, W\), got shape \(4, 4\)",
            ),
            (np.zeros((3, 0, 4), np.uint8), (8, 8), ValueError, r"got shape \(3, 0, 4\)"),
            (np.zeros((3, 4, 4), np.uint8), 8, ValueError, r"size must be \(height, width\), got 8"),
            (np.zeros((3, 4, 4), np.uint8), (8, 0), ValueError, "size must be at least 1, got 0"),
        ],
    )
    def test_refusals(self, image, size, error, message):
        with pytest.raises(error, match=f"^letterbox: .*{message}"):
            letterbox(image, size)


def random_boxes(rng, count, dtype=np.float32):
    """Boxes of which many overlap; some are equal, some have no area."""
    corner, side = rng.integers(0, 12, (count, 2)), rng.integers(0, 9, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1)
    boxes[rng.random(count) < 0.2] = boxes[0]
    return boxes.astype(dtype)


class TestSuppression:
    @pytest.mark.parametrize("classes", [None, 1, 3, 80])
    @pytest.mark.parametrize("overlap", [0.0, 0.3, 0.45, 1.0])
    def test_chooses_as_the_loop_does(self, classes, overlap, rng):
        """With scores of which many are equal."""
        for count in (1, 2, 7, 40, 150):
            boxes, scores = random_boxes(rng, count), rng.integers(0, 6, count) / 8
            labels = None if classes is None else rng.integers(0, classes, count)
            for most in (3, 300):
                found = non_max_suppression(boxes, scores, labels, overlap=overlap, most=most)
                want = non_max_suppression_naive(boxes, scores, labels, overlap=overlap, most=most)
                assert found.tolist() == want

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_scores_and_corners_that_are_no_numbers(self, bad, rng):
        for _ in range(20):
            boxes, scores = random_boxes(rng, 30), rng.random(30)
            boxes[rng.integers(0, 30, 4), rng.integers(0, 4, 4)] = bad
            scores[rng.integers(0, 30, 5)] = bad
            found = non_max_suppression(boxes, scores)
            assert found.tolist() == non_max_suppression_naive(boxes, scores)
            assert not np.isnan(scores[found]).any()

    def test_of_equal_scores_the_first_box_stays(self):
        boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [50, 50, 54, 54], [0, 0, 4, 4]])
        assert non_max_suppression(boxes, [0.5, 0.5, 0.5, 0.5]).tolist() == [0, 2]
        assert non_max_suppression(boxes, [0.5, 0.5, 0.5, 0.6]).tolist() == [3, 2]

    def test_an_overlap_of_just_the_limit_stays(self):
        """The boxes share 1 of 3."""
        boxes = [[0, 0, 2, 1], [1, 0, 3, 1]]
        assert non_max_suppression(boxes, [0.9, 0.8], overlap=1 / 3).tolist() == [0, 1]
        assert non_max_suppression(boxes, [0.9, 0.8], overlap=0.333).tolist() == [0]

    def test_a_box_that_was_dropped_drops_none(self):
        """The middle one overlaps both others, which do not overlap each other."""
        boxes = [[0, 0, 10, 1], [3, 0, 13, 1], [6, 0, 16, 1]]
        assert non_max_suppression(boxes, [0.9, 0.8, 0.7]).tolist() == [0, 2]

    def test_no_boxes(self):
        found = non_max_suppression(np.empty((0, 4)), np.empty(0), np.empty(0))
        assert found.shape == (0,)
        assert found.dtype == np.intp
        assert non_max_suppression([[0, 0, 1, 1]], [np.nan]).tolist() == []

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "message"),
        [
            (([[0, 0, 1]], [1]), {}, ValueError, r"boxes must be \(K, 4\), got shape \(1, 3\)"),
            (
                ([[0, 0, 1, 1]], [1, 2]),
                {},
                ValueError,
                r"scores must be \(1,\) as there are 1 boxes, got \(2,\)",
            ),
            (([[0, 0, 1, 1]], [1], [[1]]), {}, ValueError, r"classes must be \(1,\)"),
            (([[0, 0, 1, 1j]], [1]), {}, TypeError, "boxes must be numbers, got dtype complex128"),
            (([[0, 0, 1, 1]], ["a"]), {}, TypeError, "scores must be numbers, got dtype <U1"),
            (([[0, 0, 1, 1]], [1]), {"overlap": 1.5}, ValueError, r"overlap must be in \[0, 1\], got 1.5"),
            (([[0, 0, 1, 1]], [1]), {"most": 0}, ValueError, "most must be at least 1, got 0"),
        ],
    )
    def test_refusals(self, arguments, options, error, message):
        with pytest.raises(error, match=f"^non_max_suppression: {message}"):
            non_max_suppression(*arguments, **options)


def same(found, want):
    for one, other in zip(found, want, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


class TestDecoding:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize(("classes", "extras"), [(1, 0), (3, 0), (80, 32), (1, 51)])
    @pytest.mark.parametrize("score", [0.0, 0.25, 0.9, 1.0])
    def test_reads_as_the_loop_does(self, dtype, classes, extras, score, rng):
        output = rng.random((4 + classes + extras, 60)).astype(dtype)
        output[:4] *= 64
        output[4 : 4 + classes] = np.round(output[4 : 4 + classes] ** 4 * 8) / 8  # many are equal
        same(decode(output, classes, score=score), decode_naive(output, classes, score=score))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_values_that_are_no_numbers(self, bad, rng):
        output = rng.random((4 + 5, 400)).astype(np.float32)
        output[rng.integers(0, 9, 150), rng.integers(0, 400, 150)] = bad
        output[4:, 7] = bad
        output[2, 11] = -1  # no box
        found = decode(output, 5)
        same(found, decode_naive(output, 5))
        assert np.isfinite(found.boxes).all()
        assert not np.isnan(found.scores).any()
        assert len(found.scores) < 400

    def test_a_nan_does_not_hide_the_other_classes(self):
        output = np.array([[5.0, 5.0, 2.0, 2.0, np.nan, 0.7]]).T
        found = decode(output, 2)
        assert (found.classes.tolist(), found.scores.tolist()) == ([1], [0.7])

    def test_of_equal_scores_the_first_class_counts(self):
        output = np.array([[5.0, 5.0, 2.0, 2.0, 0.1, 0.7, 0.7]]).T
        assert decode(output, 3).classes.tolist() == [1]

    def test_only_scores_above_the_limit(self):
        output = np.array([[5.0, 5.0, 2.0, 2.0, 0.25], [5.0, 5.0, 2.0, 2.0, 0.250001]]).T
        assert decode(output, 1).scores.tolist() == [0.250001]

    @pytest.mark.parametrize("extras", [0, 32])
    def test_networks_that_suppress_by_themselves(self, extras, rng):
        output = rng.random((300, 6 + extras)).astype(np.float32)
        output[:, 2:4] += rng.random((300, 2)) - 0.1  # some have no area
        output[:, 5] = rng.integers(0, 7, 300)
        output[3, 4], output[4, 0] = np.nan, np.nan
        found = decode(output, 7, end_to_end=True)
        same(found, decode_naive(output, 7, end_to_end=True))
        assert 0 < len(found.scores) < 300

    def test_nothing(self):
        for output, end_to_end in (
            (np.zeros((6, 10)), False),
            (np.zeros((6, 0)), False),
            (np.zeros((0, 6)), True),
        ):
            found = decode(output, 2, end_to_end=end_to_end)
            assert [part.shape for part in found] == [(0, 4), (0,), (0,), (0, 0)]
            same(found, decode_naive(output, 2, end_to_end=end_to_end))

    @pytest.mark.parametrize(
        ("output", "options", "error", "message"),
        [
            (
                np.zeros((5, 9)),
                {},
                ValueError,
                r"output must be \(6 \+ E, A\) of 2 classes, got shape \(5, 9\)",
            ),
            (np.zeros((1, 6, 9)), {}, ValueError, r"got shape \(1, 6, 9\)"),
            (np.zeros((9, 5)), {"end_to_end": True}, ValueError, r"output must be \(A, 6 \+ E\)"),
            (
                np.array([[0, 0, 1, 1, 0.9, 2]]),
                {"end_to_end": True},
                ValueError,
                "the output has the class 2, there are 2 classes from 0 on",
            ),
            (np.array([[0, 0, 1, 1, 0.9, 0.5]]), {"end_to_end": True}, ValueError, "the class 0.5"),
            (np.array([[0, 0, 1, 1, 0.9, np.nan]]), {"end_to_end": True}, ValueError, "the class nan"),
            (np.zeros((6, 9), complex), {}, TypeError, "output must be numbers"),
            (np.zeros((6, 9)), {"score": -0.1}, ValueError, r"score must be in \[0, 1\]"),
        ],
    )
    def test_refusals(self, output, options, error, message):
        with pytest.raises(error, match=f"^decode: .*{message}"):
            decode(output, 2, **options)


class TestMasks:
    @pytest.mark.parametrize(
        ("image", "frame"),
        [((16, 16), (16, 16)), ((20, 13), (16, 16)), ((9, 30), (16, 24)), ((3, 4), (32, 32))],
    )
    def test_has_the_pixels_of_the_loop(self, image, frame, rng):
        placement = letterbox(np.zeros((1, *image), np.uint8), frame)[1]
        prototypes = rng.standard_normal((5, frame[0] // 4, frame[1] // 4)).astype(np.float32)
        H, W = image
        for _ in range(20):
            (x1, x2), (y1, y2) = np.sort(rng.random(2) * W), np.sort(rng.random(2) * H)
            box = np.array([x1, y1, x2, y2], np.float32)
            coefficients = rng.standard_normal(5).astype(np.float32)
            part = mask_of(coefficients, prototypes, box, placement)
            want = mask_of_naive(coefficients, prototypes, box, placement)
            np.testing.assert_array_equal(part.whole(image), want)

    def test_a_large_mask_is_made_block_by_block(self, rng, monkeypatch):
        placement = Placement((90, 70), (64, 64), (64, 50), 0, 7)
        prototypes, coefficients = rng.standard_normal((4, 16, 16)), rng.standard_normal(4)
        box = np.array([3.0, 5.0, 66.0, 88.0])
        want = mask_of(coefficients, prototypes, box, placement).inside
        for pixels in (1, 63, 100, 1000):
            monkeypatch.setattr("cnnlib.detection.masks._BLOCK", pixels)
            np.testing.assert_array_equal(mask_of(coefficients, prototypes, box, placement).inside, want)

    def test_masks_are_computed_when_they_are_asked_for(self, rng):
        H, W, count = 2000, 1500, 20
        placement = letterbox(np.zeros((1, H, W), np.uint8), (64, 64))[1]
        prototypes = rng.standard_normal((5, 16, 16)).astype(np.float32)
        coefficients = rng.standard_normal((count, 5)).astype(np.float32)
        boxes = np.tile(np.array([0, 0, W, H], np.float32), (count, 1))
        parts = MaskParts(coefficients, prototypes, boxes, placement)
        assert len(parts) == count
        assert peak_bytes(lambda: [part.run_lengths((H, W)) for part in parts]) < 12 * H * W
        for k, part in enumerate(parts[3:5], start=3):
            want = mask_of(coefficients[k], prototypes, boxes[k], placement)
            assert part[:2] == want[:2] == parts[k][:2]
            np.testing.assert_array_equal(part.inside, want.inside)
        with pytest.raises(IndexError):
            parts[count]

    def test_of_the_whole_image(self, rng):
        placement = Placement((8, 8), (8, 8), (8, 8), 0, 0)
        part = mask_of(np.ones(1), np.ones((1, 2, 2)), np.array([0.0, 0.0, 8.0, 8.0]), placement)
        assert part.whole((8, 8)).all()

    @pytest.mark.parametrize("box", [(3.0, 3.0, 3.0, 3.0), (2.6, 1.0, 3.4, 5.0), (0.0, 0.0, 0.0, 8.0)])
    def test_a_box_that_holds_no_centre_has_no_pixel(self, box):
        placement = Placement((8, 8), (8, 8), (8, 8), 0, 0)
        part = mask_of(np.ones(1), np.ones((1, 2, 2)), np.array(box), placement)
        assert not part.whole((8, 8)).any()
        assert part.run_lengths((8, 8)) == [64]

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_no_numbers(self, bad):
        placement = Placement((8, 8), (8, 8), (8, 8), 0, 0)
        prototypes = np.full((2, 2, 2), bad)
        part = mask_of(np.array([1.0, -1.0]), prototypes, np.array([0.0, 0.0, 8.0, 8.0]), placement)
        assert not part.inside.any()

    def test_run_lengths(self, rng):
        """Written out again, column after column, they are the mask."""
        for _ in range(300):
            H, W = rng.integers(1, 7, 2).tolist()
            top, left = rng.integers(0, H), rng.integers(0, W)
            h, w = rng.integers(1, H - top + 1), rng.integers(1, W - left + 1)
            part = MaskPart(int(top), int(left), rng.random((h, w)) < rng.choice([0.0, 0.3, 0.8, 1.0]))
            counts = part.run_lengths((H, W))
            assert sum(counts) == H * W
            assert all(count > 0 for count in counts[1:])
            pixels = np.repeat(np.arange(len(counts)) % 2, counts)
            np.testing.assert_array_equal(pixels.reshape(W, H).T, part.whole((H, W)))

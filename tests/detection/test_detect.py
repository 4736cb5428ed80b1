"""cnnlib.detect: from photos to objects, by networks of ours and by functions; what files keep of a head."""

import pickle

import cnnlib
import numpy as np
import pytest
from cnnlib.detection import DetectionHead, Detections, Detector, non_max_suppression
from cnnlib.models import ConvNet, Graph, GraphNet
from detectors import NAMES, SIDE, SIZE, photo, square_net

TASKS = ("detect", "segment", "pose")


def answering(*arrays):
    """A network whose outputs are these, whatever the images."""
    return lambda images: [np.asarray(array)[: len(images)] for array in arrays]


def head(count=2, task="detect", keypoints=None, size=(64, 64)):
    return DetectionHead([f"c{k}" for k in range(count)], task, size, 32, keypoints)


def rows(*boxes):
    """An output (1, 4 + classes, A) of cx, cy, w, h and scores."""
    return np.array(boxes, np.float32).T[None]


class TestPhotos:
    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_finds_the_square(self, task, dtype):
        net = square_net(task, dtype)
        for predictor in (net, cnnlib.prepare(net)):
            found = cnnlib.detect(predictor, [photo(4, 12, 0), photo(20, 0, 2)])
            assert [f.labels for f in found] == [["red"], ["blue"]]
            for f, (top, left) in zip(found, [(4, 12), (20, 0)], strict=True):
                np.testing.assert_allclose(f.boxes, [[left, top, left + SIDE, top + SIDE]], atol=1e-3)
                np.testing.assert_allclose(f.scores, 1, atol=1e-4)
                assert f.boxes.dtype == f.scores.dtype == dtype
                assert f.size == (SIZE, SIZE)
                assert (f.masks is None) == (task != "segment")
                assert (f.keypoints is None) == (task != "pose")
                if task == "segment":
                    want = photo(top, left, 0)[0] > 0
                    assert f.masks.shape == (1, SIZE, SIZE)
                    np.testing.assert_array_equal(f.masks[0], want)
                if task == "pose":
                    middle, corner = [left + 4, top + 4, 0.9], [left, top, 0.4]
                    np.testing.assert_allclose(f.keypoints, [[middle, corner]], atol=1e-3)

    @pytest.mark.parametrize("task", TASKS)
    def test_of_a_large_photo_in_its_own_pixels(self, task):
        (found,) = cnnlib.detect(square_net(task), photo(4, 12, 1, scale=3))
        np.testing.assert_allclose(found.boxes, [[36, 12, 60, 36]], atol=0.5)
        assert found.size == (3 * SIZE, 3 * SIZE)
        if task == "segment":
            want = photo(4, 12, 1, scale=3)[1] > 0
            assert (found.masks[0] == want).mean() > 0.99
        if task == "pose":
            np.testing.assert_allclose(found.keypoints[0, :, :2], [[48, 24], [36, 12]], atol=0.5)

    def test_a_photo_in_a_frame(self):
        """The network sees 64 x 32 of a photo of 200 x 100, 16 pixels from the left."""
        net = answering(rows((32, 16, 16, 16, 0.1, 0.9), (12, 60, 24, 20, 0.8, 0)))
        (found,) = cnnlib.detect(net, np.zeros((3, 200, 100), np.uint8), head=head())
        np.testing.assert_allclose(found.boxes, [[25, 25, 75, 75], [0, 156.25, 25, 200]], rtol=1e-6)
        assert found.classes.tolist() == [1, 0]
        assert repr(found) == "<Detections 1 c1, 1 c0>"

    def test_files_arrays_and_batches(self, tmp_path):
        image = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
        photos = [photo(4, 12, 0), photo(20, 0, 2), photo(8, 8, 1, scale=2)]
        for k, pixels in enumerate(photos):
            image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / f"{k}.png")
        files = [tmp_path / f"{k}.png" for k in range(3)]
        net = square_net()
        want = [f.described() for f in cnnlib.detect(net, photos)]
        assert [f.described() for f in cnnlib.detect(net, files)] == want
        assert [f.described() for f in cnnlib.detect(net, (photos[0], str(files[1]), files[2]))] == want
        assert [f.described() for f in cnnlib.detect(net, files[0])] == want[:1]
        assert [f.described() for f in cnnlib.detect(net, np.stack(photos[:2]))] == want[:2]
        assert cnnlib.detect(net, []) == []
        with pytest.raises(FileNotFoundError, match="there is no image"):
            cnnlib.detect(net, tmp_path / "none.png")

    def test_a_few_images_go_through_the_network_at_a_time(self, monkeypatch):
        sizes = []

        def net(images):
            sizes.append(len(images))
            assert images.dtype == np.float32
            assert 0 <= images.min() <= images.max() <= 1
            return np.repeat(rows((32, 32, 8, 8, 0.9)), len(images), axis=0)

        monkeypatch.setattr("cnnlib.detection.detecting._BATCH_VALUES", 2 * 3 * 64 * 64)
        found = cnnlib.detect(net, np.full((5, 3, 64, 64), 255, np.uint8), head=head(1))
        assert (sizes, len(found)) == ([2, 2, 1], 5)
        sizes.clear()
        raws = Detector(net, head=head(1)).outputs(np.full((5, 3, 64, 64), 255, np.uint8))
        assert (sizes, len(raws)) == ([2, 2, 1], 5)

    def test_the_network_s_own_preprocess_counts(self):
        def net(images):
            assert images.max() == 1
            assert images.min() == -1
            return rows((32, 32, 8, 8, 0.9))

        net.preprocess = cnnlib.data.Normalization(127.5, 127.5)
        pixels = np.zeros((3, 64, 64), np.uint8)
        pixels[0] = 255
        assert len(cnnlib.detect(net, pixels, head=head(1))[0]) == 1


class TestOutputs:
    def test_suppression_and_limits(self, rng):
        output = rng.random((1, 4 + 3, 200)).astype(np.float32)
        output[:, :4] *= 40
        pixels = np.zeros((3, 64, 64), np.uint8)
        (found,) = cnnlib.detect(answering(output), pixels, head=head(3), score=0.6, overlap=0.3, most=20)
        raw = cnnlib.detection.decode(output[0], 3, score=0.6)
        kept = non_max_suppression(*raw[:3], overlap=0.3, most=20)
        np.testing.assert_array_equal(found.scores, raw.scores[kept])
        np.testing.assert_allclose(found.boxes, np.clip(raw.boxes[kept], 0, 64))
        assert len(found) <= 20
        assert len(cnnlib.detect(answering(output), pixels, head=head(3), score=1)[0]) == 0

    def test_a_grid_of_places_is_read_row_by_row(self, rng):
        output = rng.random((1, 6, 12)).astype(np.float32)
        output[:, :4] *= 40
        pixels = np.zeros((3, 64, 64), np.uint8)
        flat, grid = (
            cnnlib.detect(answering(array), pixels, head=head())[0].described()
            for array in (output, output.reshape(1, 6, 3, 4))
        )
        assert flat == grid
        assert len(flat) > 0

    def test_networks_that_suppress_by_themselves(self):
        """Overlapping boxes stay, as the network has chosen; the surest comes first."""
        output = np.zeros((1, 300, 6), np.float32)
        output[0, :3] = [[0, 0, 32, 32, 0.5, 0], [0, 0, 32, 33, 0.9, 0], [5, 5, 60, 60, 0.1, 1]]
        (found,) = cnnlib.detect(answering(output), np.zeros((3, 128, 128), np.uint8), head=head())
        np.testing.assert_allclose(found.boxes, [[0, 0, 64, 66], [0, 0, 64, 64]])
        (best,) = cnnlib.detect(answering(output), np.zeros((3, 128, 128), np.uint8), head=head(), most=1)
        np.testing.assert_allclose(best.scores, [0.9])

    def test_several_outputs_as_a_dict(self):
        prototypes = np.ones((1, 2, 16, 16), np.float32)
        boxes = rows((32, 32, 16, 16, 0.9, 1.0, 1.0), (10, 10, 8, 8, 0.8, 1.0, -2.0))
        net = lambda images: {"output0": boxes, "output1": prototypes}  # noqa: E731
        (found,) = cnnlib.detect(net, np.zeros((3, 64, 64), np.uint8), head=head(1, "segment"))
        assert found.masks.sum(axis=(1, 2)).tolist() == [16 * 16, 0]
        np.testing.assert_array_equal(found.masks[0], found.mask_parts[0].whole((64, 64)))

    @pytest.mark.parametrize("task", TASKS)
    def test_nothing_is_found(self, task):
        keypoints, extras = ((2, 3), 6) if task == "pose" else (None, 4 if task == "segment" else 0)
        arrays = [np.zeros((1, 4 + 2 + extras, 21), np.float32)]
        arrays += [np.zeros((1, 4, 16, 16), np.float32)] if task == "segment" else []
        pixels = np.zeros((3, 40, 50), np.uint8)
        (found,) = cnnlib.detect(answering(*arrays), pixels, head=head(2, task, keypoints))
        assert (len(found), found.labels, found.described(), repr(found)) == (0, [], [], "<Detections none>")
        assert found.boxes.shape == (0, 4)
        assert task != "segment" or found.masks.shape == (0, 40, 50)
        assert task != "pose" or found.keypoints.shape == (0, 2, 3)

    def test_as_json_has_it(self):
        mask = cnnlib.detection.MaskPart(1, 1, np.ones((2, 1), bool))
        found = Detections(
            np.array([[1.0, 1.0, 2.0, 3.0]]), np.array([0.5]), np.array([0]), ("cat",), (4, 3),
            np.array([[[1.0, 2.0]]]), (mask,),
        )  # fmt: skip
        assert found.described() == [
            {
                "class": "cat", "score": 0.5, "box": [1.0, 1.0, 2.0, 3.0], "keypoints": [[1.0, 2.0]],
                "mask": {"size": [4, 3], "counts": [5, 2, 5]},
            }
        ]  # fmt: skip


def grey(size=(64, 64), channels=3):
    return np.zeros((channels, *size), np.uint8)


@pytest.mark.parametrize(
    ("net", "images", "options", "error", "message"),
    [
        (3, grey(), {}, TypeError, "the network must be callable, got an int"),
        (answering(rows()), grey(), {}, ValueError, "nothing says what the network's outputs mean"),
        (answering(rows()), grey(), {"head": "yolo"}, TypeError, "detection must be a DetectionHead or None"),
        (answering(), grey(), {"head": head(size=None)}, ValueError, "the size of the network's images"),
        (answering(), grey(), {"head": head()}, ValueError, "'detect' gives an array of boxes, got none"),
        (
            answering(np.zeros((1, 7, 9))),
            grey(),
            {"head": head()},
            ValueError,
            r"boxes of 2 classes and 0 further .* must be \(N, 6, A\), .* or \(N, A, 6\), got \(1, 7, 9\)",
        ),
        (
            answering(np.zeros((1, 6, 9)), np.zeros((1, 2, 4, 4))),
            grey(),
            {"head": head()},
            ValueError,
            r"'detect' gives an array of boxes, got \(1, 6, 9\), \(1, 2, 4, 4\)",
        ),
        (
            answering(np.zeros((1, 8, 9))),
            grey(),
            {"head": head(2, "segment")},
            ValueError,
            r"gives an array of boxes and one of prototypes \(N, E, h, w\), got \(1, 8, 9\)",
        ),
        (answering(np.zeros((1, 6, 9))), [grey(), grey()], {"head": head()}, ValueError, "of 2 images"),
        (answering(), grey(), {"head": head(), "score": 2}, ValueError, r"score must be in \[0, 1\], got 2"),
        (answering(), grey(), {"head": head(), "overlap": -1}, ValueError, r"overlap must be in \[0, 1\]"),
        (answering(), grey(), {"head": head(), "most": 1.5}, TypeError, "most must be an integer, got 1.5"),
        (
            answering(),
            np.zeros((64, 48, 3), np.uint8),
            {"head": head()},
            ValueError,
            r"must be \(3, H, W\), got shape \(64, 48, 3\); .* by .transpose\(2, 0, 1\)",
        ),
        (answering(), grey(channels=1), {"head": head()}, ValueError, r"\(3, H, W\), got shape \(1, 64"),
        (answering(), np.zeros((3, 64, 64)), {"head": head()}, TypeError, "must be an array of uint8"),
        (answering(), np.zeros((64, 64), np.uint8), {"head": head()}, ValueError, r"or \(N, C, H, W\)"),
        (answering(), 3, {"head": head()}, TypeError, "images must be paths or arrays, got an int"),
    ],
)  # fmt: skip
def test_refusals(net, images, options, error, message):
    with pytest.raises(error, match=f"^detect: .*{message}"):
        cnnlib.detect(net, images, **options)


def test_a_network_of_no_images_is_refused():
    graph = Graph()
    graph.affine("W")
    net = GraphNet(graph, {"W": np.ones((4, 2))}, 4)
    with pytest.raises(ValueError, match=r"^detect: the network takes samples of shape \(4,\), not images"):
        Detector(net, head=head())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cat",), TypeError, "classes must be a sequence of names, got 'cat'"),
        (([],), ValueError, "classes must have a name at least"),
        (([1],), TypeError, "classes must be a sequence of names, got"),
        ((["a"], "obb"), ValueError, "task must be one of 'detect', 'segment', 'pose', got 'obb'"),
        ((["a"], "pose"), ValueError, "keypoints are for the task 'pose', got None for 'pose'"),
        ((["a"], "detect", None, 32, (2, 3)), ValueError, "keypoints are for the task 'pose'"),
        ((["a"], "pose", None, 32, (2, 4)), ValueError, "a key point has 2 or 3 numbers"),
        ((["a"], "detect", 640), ValueError, "size must be two integers, got 640"),
        ((["a"], "detect", (0, 640)), ValueError, "size must be at least 1, got 0"),
        ((["a"], "detect", None, 0), ValueError, "stride must be at least 1, got 0"),
    ],
)
def test_heads_that_are_none(arguments, error, message):
    with pytest.raises(error, match=f"^DetectionHead: {message}"):
        DetectionHead(*arguments)


@pytest.mark.parametrize("task", TASKS)
class TestFiles:
    def test_keep_the_head(self, task, tmp_path):
        net = square_net(task)
        want = cnnlib.detect(net, photo(4, 12, 0))[0].described()
        net.save(tmp_path / "net.npz")
        cnnlib.prepare(net).save(tmp_path / "net.cnnlib")
        net.export(tmp_path / "other.cnnlib")
        copies = [cnnlib.load(tmp_path / name) for name in ("net.npz", "net.cnnlib", "other.cnnlib")]
        copies.append(pickle.loads(pickle.dumps(cnnlib.prepare(net))))
        for copy in copies:
            assert copy.detection == net.detection
            assert cnnlib.detect(copy, photo(4, 12, 0))[0].described() == want

    def test_onnx_keeps_the_head(self, task, tmp_path):
        pytest.importorskip("onnx", reason="it writes and reads the file")
        net = square_net(task)
        net.export(tmp_path / "net.onnx")
        copy = cnnlib.load(tmp_path / "net.onnx")
        assert (copy.detection, copy.preprocess, copy.head) == (net.detection, net.preprocess, "values")
        want = cnnlib.detect(net, photo(4, 12, 0))[0].described()
        assert cnnlib.detect(copy, photo(4, 12, 0))[0].described() == want


def test_files_of_a_model_of_stages_keep_the_head(tmp_path):
    net = ConvNet([{"conv": 4}, "relu", {"pixels": 6}], (3, 8, 8), seed=0)
    net.detection = DetectionHead(["a", "b"], stride=1)
    net.save(tmp_path / "net.npz")
    assert cnnlib.load(tmp_path / "net.npz").detection == net.detection
    net.detection = None
    net.save(tmp_path / "net.npz")
    assert cnnlib.load(tmp_path / "net.npz").detection is None


def test_a_head_that_is_none_is_not_saved(tmp_path):
    net = square_net()
    net.detection = "yolo"
    for save in (net.save, cnnlib.prepare(net).save):
        with pytest.raises(TypeError, match=r"save: detection must be a DetectionHead or None, got 'yolo'"):
            save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_eight_bits_keep_the_head(rng):
    net = square_net()
    images = np.stack([photo(*rng.integers(0, 25, 2), k % 3) for k in range(60)])
    predictor = cnnlib.prepare(net, precision="int8", calibration=images)
    assert predictor.detection == net.detection
    (found,) = cnnlib.detect(predictor, photo(4, 12, 0))
    assert found.labels == ["red"]
    np.testing.assert_allclose(found.boxes, [[12, 4, 20, 12]], atol=1)


def test_names_are_there():
    assert NAMES == square_net().detection.classes
    assert cnnlib.detect is cnnlib.detection.detect

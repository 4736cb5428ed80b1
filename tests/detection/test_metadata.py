"""Metadata as Ultralytics writes them into ONNX files: names, task, size, stride, key points."""

import cnnlib
import numpy as np
import pytest
from cnnlib.data import Normalization
from cnnlib.detection import DetectionHead
from cnnlib.onnx.ultralytics import classes_of, head_of, metadata_of
from detectors import photo, square_net

onnx = pytest.importorskip("onnx", reason="it writes the files")

# Of yolo11n.pt, yolo11n-pose.pt and yolo11n-cls.pt, exported by ultralytics 8.3 and 8.4.
DETECT = {
    "description": "Ultralytics YOLO11n model trained on coco.yaml",
    "author": "Ultralytics",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": "[480, 640]",
    "names": "{0: 'person', 1: 'bicycle', 2: \"driver's cab\", 3: 'caf\\xe9'}",
    "args": "{'batch': 1, 'half': False, 'nms': False}",
    "channels": "3",
    "end2end": "False",
}
POSE = {**DETECT, "task": "pose", "names": "{0: 'person'}", "kpt_shape": "[17, 3]"}
NAMES = ("person", "bicycle", "driver's cab", "café")


def altered(model, content, tmp_path):
    """A model's ONNX file with these metadata alone."""
    model.export(tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx")
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, content)
    return proto


def test_what_they_say():
    assert head_of(DETECT) == DetectionHead(NAMES, "detect", (480, 640), 32)
    assert head_of({**DETECT, "task": "segment"}) == DetectionHead(NAMES, "segment", (480, 640), 32)
    assert head_of(POSE) == DetectionHead(["person"], "pose", (480, 640), 32, (17, 3))
    assert classes_of({**DETECT, "task": "classify"}) == NAMES
    assert classes_of(DETECT) is None


@pytest.mark.parametrize(
    "content", [{}, {"task": "detect"}, {**DETECT, "task": "obb"}, {"names": "x", "stride": "32"}]
)
def test_other_metadata_say_nothing(content):
    assert head_of(content) is None
    assert classes_of(content) is None


@pytest.mark.parametrize(
    "head", [head_of(DETECT), head_of(POSE), DetectionHead(["a\\'\"b\n\u2028", "', 7: 'x"])]
)
def test_what_is_written_is_read(head):
    size = head.size or (64, 96)
    found = head_of(metadata_of(head, size))
    assert found == DetectionHead(head.classes, head.task, size, head.stride, head.keypoints)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("names", "['person']", "names must be a dict"),
        ("names", "{}", "classes must have a name at least"),
        ("names", "{0: 'a', 2: 'b'}", "names must be text by numbers from 0, got \" 2: 'b'\""),
        ("names", "{0: 'a' 1: 'b'}", "names must be text"),
        ("names", "{0: print('a')}", "names must be text"),
        ("names", "{0: 'a", "names must be a dict"),
        ("names", "{0: '\\x'}", "names must be text"),
        ("names", "{0: '\\U00110000'}", "names must be text"),
        ("names", "{" + "(" * 100_000 + "}", "names must be text"),
        ("imgsz", "640", "imgsz must be two integers, got '640'"),
        ("imgsz", "[640, 'a']", "damaged"),
        ("imgsz", "[0, 640]", "imgsz must be at least 1, got 0"),
        ("imgsz", "[" * 100_000, "damaged"),
        ("stride", "[32]", "stride must be an integer"),
        ("kpt_shape", "[2, 9]", "a key point has 2 or 3 numbers"),
        ("kpt_shape", "", "damaged"),
    ],
)
def test_damaged_ones_are_refused_by_name(key, value, message, tmp_path):
    proto = altered(square_net("pose"), {**POSE, key: value}, tmp_path)
    with pytest.raises(ValueError, match=r"^the model: its metadata are damaged: ") as caught:
        cnnlib.onnx.load(proto)
    assert message in str(caught.value)


def test_a_network_is_ready(tmp_path):
    """Exported elsewhere, it says by itself how its images go in, and what comes out."""
    content = {**DETECT, "imgsz": "[32, 32]", "names": "{0: 'r', 1: 'g', 2: 'b'}"}
    net = cnnlib.onnx.load(altered(square_net(), content, tmp_path))
    assert net.preprocess == Normalization(0, 255)
    assert (net.head, net.classes) == ("values", None)
    (found,) = cnnlib.detect(net, photo(4, 12, 2))
    assert found.labels == ["b"]
    np.testing.assert_allclose(found.boxes, [[12, 4, 20, 12]], atol=1e-3)


def with_open_sizes(tmp_path, content):
    """A file that leaves height and width of its images open, as Ultralytics' `dynamic=True` does."""
    proto = altered(square_net(), content, tmp_path)
    for axis, name in ((2, "height"), (3, "width")):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return proto


def test_the_size_of_images_that_the_file_leaves_open(tmp_path):
    content = {**DETECT, "imgsz": "[32, 32]", "names": "{0: 'r', 1: 'g', 2: 'b'}"}
    net = cnnlib.onnx.load(with_open_sizes(tmp_path, content))
    assert net.input_dim == (3, 32, 32)
    assert cnnlib.detect(net, photo(4, 12, 2))[0].labels == ["b"]
    proto = with_open_sizes(tmp_path, {**content, "imgsz": "[64, 32]"})
    assert cnnlib.onnx.load(proto).input_dim == (3, 64, 32)
    assert cnnlib.onnx.load(proto, input_dim=(3, 32, 40)).input_dim == (3, 32, 40)
    closed = altered(square_net(), {**content, "imgsz": "[64, 64]"}, tmp_path)
    assert cnnlib.onnx.load(closed).input_dim == (3, 32, 32)
    with pytest.raises(ValueError, match="whose sizes must be known"):
        cnnlib.onnx.load(with_open_sizes(tmp_path, {}))
    with pytest.raises(
        ValueError, match="its metadata are damaged: metadata: imgsz must be at least 1, got 0"
    ):
        cnnlib.onnx.load(with_open_sizes(tmp_path, {**content, "imgsz": "[0, 32]"}))


def test_a_classifier_is_ready(tmp_path):
    net = cnnlib.models.ConvNet([{"conv": 2}, "global_avg_pool"], (3, 8, 8), 4, seed=0)
    loaded = cnnlib.onnx.load(altered(net, {**DETECT, "task": "classify", "imgsz": "[8, 8]"}, tmp_path))
    assert (loaded.classes, loaded.preprocess, loaded.detection) == (NAMES, Normalization(0, 255), None)
    assert loaded.head == "classes"
    proto = altered(net, {**DETECT, "task": "classify", "names": "{0: 'a'}"}, tmp_path)
    with pytest.raises(ValueError, match="its metadata are damaged: its list of classes has 1 names"):
        cnnlib.onnx.load(proto)


def test_what_cnnlib_has_written_itself_counts_first(tmp_path):
    net = cnnlib.models.ConvNet([{"conv": 2}, "global_avg_pool"], (3, 8, 8), 4, seed=0)
    own = {"cnnlib.classes": '["a", "b", "c", "d"]'}
    content = {**DETECT, "task": "classify", "imgsz": "[8, 8]", **own}
    assert cnnlib.onnx.load(altered(net, content, tmp_path)).classes == tuple("abcd")

"""What no predictor can serve, in tables: each is refused by an error that names what was called and X."""

import re

import numpy as np
import pytest
from cnnlib.data import Normalization
from cnnlib.inference import prepare
from cnnlib.models import ConvNet, FullyConnectedNet

pytestmark = pytest.mark.borders


def conv_net():
    spec = [{"conv": 4}, "batchnorm", "relu", {"max_pool": 2}, {"conv": 4}, "global_avg_pool", {"affine": 3}]
    return ConvNet(spec, (3, 8, 8), 3, seed=0)


def normalized_net():
    net = conv_net()
    net.preprocess = Normalization((1, 2, 3), (4, 5, 6))
    return net


NETS = {
    "images": conv_net,
    "bytes": normalized_net,
    "rows": lambda: FullyConnectedNet((5,), input_dim=(3, 8, 8), num_classes=3, seed=0),
    "affine after images": lambda: ConvNet([{"conv": 4}, {"affine": 3}], (3, 8, 8), 3, seed=0),
}
GOOD = (2, 3, 8, 8)
SHAPES = [
    (),
    (3,),
    (2, 3),
    (3, 8, 8),
    (2, 3, 8, 8, 1),
    (2, 4, 8, 8),
    (2, 1, 8, 8),
    (2, 0, 8, 8),
    (2, 3, 0, 8),
]
OTHERS = {
    "complex": np.zeros(GOOD, complex),
    "objects": np.full(GOOD, None),
    "texts": np.full(GOOD, "1"),
    "records": np.zeros(GOOD, [("a", np.float64)]),
    "dates": np.zeros(GOOD, "M8[s]"),
    "ragged": [[1, 2], [3]],
    "None": None,
    "text": "text",
    "an object": object(),
    "a class": float,
    "a generator": (n for n in range(3)),
}


def refused(call, X):
    for method in ("predict", "predict_proba", "profile", "__call__"):
        with pytest.raises((ValueError, TypeError)) as error:
            getattr(call, method)(X)
        message = error.value.args[0]
        assert re.match(r"(Predictor(\.\w+)?|prepare|\w+_forward|Normalization): ", message), message
        assert len(message) < 500, message


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_shapes_of_samples(name, shape, dtype):
    if name == "rows" and shape == (2, 3, 8, 8, 1):
        return  # the same values in a row
    refused(prepare(NETS[name]()), np.zeros(shape, dtype))


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("name", NETS)
def test_what_is_no_array_of_numbers(name, what):
    refused(prepare(NETS[name]()), OTHERS[what])


@pytest.mark.parametrize("name", NETS)
def test_samples_that_no_memory_holds(name):
    """Zero strides let an array claim any size: neither crash nor wait."""
    predictor = prepare(NETS[name]())
    for shape in ((2**40, 3, 8, 8), (1, 3, 2**40, 8), (1, 3, 2**31, 2**20)):
        with pytest.raises((ValueError, MemoryError)):
            predictor(np.broadcast_to(np.float32(1), shape))
        with pytest.raises((ValueError, MemoryError)):
            predictor(np.broadcast_to(np.uint8(1), shape))
    assert predictor(np.zeros(GOOD, np.float32)).shape == (2, 3)


@pytest.mark.parametrize("name", NETS)
def test_any_form_of_array_gives_the_same_bits_and_is_not_written_to(name, rng):
    predictor = prepare(NETS[name]())
    x = rng.standard_normal(GOOD).astype(np.float32)
    want = predictor(x)
    room = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = room[1:].view(np.float32).reshape(GOOD)
    unaligned[...] = x
    sealed = x.copy()
    sealed.flags.writeable = False
    for form in (
        np.asfortranarray(x),
        x[::-1][::-1],
        np.repeat(x, 2, 3)[..., ::2],
        unaligned,
        sealed,
        x.astype(">f4"),
    ):
        before = form.copy()
        np.testing.assert_array_equal(predictor(form), want)
        np.testing.assert_array_equal(form, before)
    same = np.broadcast_to(x[:1], GOOD)
    np.testing.assert_array_equal(predictor(same)[1], want[0])

"""Calls that no layer can serve, in tables: each is refused by an error that names function and argument."""

import re
import types

import cnnlib
import numpy as np
import pytest
from cnnlib import optim
from helpers import ELEMENTWISE, LAYERS, as_tuple

pytestmark = pytest.mark.borders

SHAPED = [layer for layer in LAYERS if layer.name not in ELEMENTWISE]

# The axes whose size another argument of the layer fixes.
TIED = {
    "conv": {"x": (1,), "w": (0, 1), "b": (0,)},
    "conv_transpose": {"x": (1,), "w": (0, 1), "b": (0,)},
    "affine": {"x": (1, 2), "w": (0, 1), "b": (0,)},
    "batchnorm": {"x": (1,), "gamma": (0,), "beta": (0,)},
}
for _name, _like in [
    *[(name, "conv") for name in ("conv_relu", "conv_bn_relu", "conv_relu_pool", "conv_bn_relu_pool")],
    *[(name, "affine") for name in ("affine_relu", "affine_bn_relu")],
    *[(name, "batchnorm") for name in ("spatial_batchnorm", "layernorm", "spatial_groupnorm")],
    *[(name, "batchnorm") for name in ("spatial_layernorm", "spatial_instancenorm")],
    *[("conv1d", "conv"), ("conv3d", "conv")],
]:
    TIED[_name] = TIED[_like] | ({"gamma": (0,), "beta": (0,)} if "bn" in _name else {})

STEPS = [0, -1, 2**31, 2**70, (1, 0), (1, 2, 3), (), 1.5, "1", True, np.nan, [1, None], {}, np.ones(2)]
PADS = [-1, ((0, 0), (0, -1)), (1, 2, 3), ((1, 1, 1), 1), "full", 1.5, None, True, 2**40, {}, (1, "1")]
FLAGS = [1, 0.0, "yes", None, []]
POOL_SIZES = [0, -1, 99, 2**40, 1.5, None, "2", (2, 2), True]
STATISTICS = [np.zeros(3), np.zeros((4, 1)), np.zeros(()), ["a"] * 4, np.zeros(4, complex), "text", object()]
POOL = {
    "pool_height": POOL_SIZES,
    "pool_width": POOL_SIZES,
    "stride": STEPS,
    "pad": [*PADS, 2, (0, 2)],
    "ceil_mode": FLAGS,
}
EPS = [-1e-5, np.nan, np.inf, "small", None, 1j, True, [1e-5]]

# For each dictionary the wrong values of each key.
WRONG_VALUES = {
    "conv_param": {
        "stride": [*STEPS, None],
        "dilation": [*STEPS, None, 99],
        "pad": PADS,
        "groups": [0, -1, 3, 2**40, 1.5, None, "1", (1, 1), True],
        "algorithm": ["fft", "", 1, None, ["auto"]],
    },
    "max_pool's pool_param": {**POOL, "dilation": [*STEPS, None, 99]},
    "avg_pool's pool_param": {**POOL, "count_include_pad": FLAGS},
    "bn_param": {
        "mode": ["predict", "", None, 1, ["train"]],
        "eps": EPS,
        "momentum": [-0.1, 1.5, np.nan, None, "much", True],
        "running_mean": STATISTICS,
        "running_var": STATISTICS,
    },
    "ln_param": {"eps": EPS},
    "gn_param": {"eps": EPS},
    "in_param": {"eps": EPS},
    "dropout_param": {
        "p": [-0.1, 1.5, np.nan, None, "half", True, [0.5]],
        "mode": ["eval", "", None, 1],
        "seed": [-1, 2**32, 1.5, "5", True, [1]],
    },
}
WRONG_VALUES["conv_transpose's conv_param"] = {
    **WRONG_VALUES["conv_param"],
    "dilation": [*STEPS, None],
    "pad": [*PADS, "same", 99],
    "output_pad": [-1, 2, 99, (0, 2), 1.5, None, "1", True],
}

# Of sequences and of volumes: a number, or one for each axis.
NOT_NUMBERS = [step for step in STEPS if not (isinstance(step, tuple) and len(step) == 3)]
PADS_1D = [-1, (-1,), (0, 1), (1, 2, 3), ((1, 2, 3),), ((0, -1),), "full", 1.5, None, True, 2**40, {}, ("1",)]
PADS_3D = [-1, (0, 1, -1), (0, 1), ((1, 2, 3), 0, 0), ((0, -1), 0, 0), "full", 1.5, None, True, 2**40, {}]
WRONG_VALUES |= {
    "conv1d's conv_param": {
        **WRONG_VALUES["conv_param"],
        "stride": [*STEPS, None, (1, 1)],
        "dilation": [*STEPS, None, 99],
        "pad": PADS_1D,
    },
    "conv3d's conv_param": {
        **WRONG_VALUES["conv_param"],
        "stride": [*NOT_NUMBERS, None, (1, 1), (1, 0, 1)],
        "dilation": [*NOT_NUMBERS, None, 99, (1, 1, 99)],
        "pad": PADS_3D,
    },
}
POOL_1D = {"pool_width": POOL_SIZES, "stride": [*STEPS, (1, 1)], "pad": [*PADS_1D, 2], "ceil_mode": FLAGS}
POOL_3D = {
    **dict.fromkeys(("pool_depth", "pool_height", "pool_width"), POOL_SIZES),
    "stride": [*NOT_NUMBERS, (1, 1), (1, 0, 1)],
    "pad": [*PADS_3D, 3, (2, 0, 0)],
    "ceil_mode": FLAGS,
}
for _axes, _pool, _steps in (("1d", POOL_1D, STEPS), ("3d", POOL_3D, NOT_NUMBERS)):
    WRONG_VALUES[f"max_pool{_axes}'s pool_param"] = {**_pool, "dilation": [*_steps, None, 99]}
    WRONG_VALUES[f"avg_pool{_axes}'s pool_param"] = {**_pool, "count_include_pad": FLAGS}

# The dictionaries of a layer, by their position among the arguments that follow the arrays.
DICTIONARIES = {
    "conv": ["conv_param"],
    "conv_transpose": ["conv_transpose's conv_param"],
    "max_pool": ["max_pool's pool_param"],
    "avg_pool": ["avg_pool's pool_param"],
    **{
        f"{name}{axes}": [f"{name}{axes}'s {param}"]
        for axes in ("1d", "3d")
        for name, param in (("conv", "conv_param"), ("max_pool", "pool_param"), ("avg_pool", "pool_param"))
    },
    "batchnorm": ["bn_param"],
    "spatial_batchnorm": ["bn_param"],
    "layernorm": ["ln_param"],
    "spatial_layernorm": ["ln_param"],
    "spatial_groupnorm": [None, "gn_param"],
    "spatial_instancenorm": ["in_param"],
    "dropout": ["dropout_param"],
    "affine_bn_relu": ["bn_param"],
    "conv_relu": ["conv_param"],
    "conv_bn_relu": ["conv_param", "bn_param"],
    "conv_relu_pool": ["conv_param", "max_pool's pool_param"],
    "conv_bn_relu_pool": ["conv_param", "bn_param", "max_pool's pool_param"],
}
REQUIRED = {
    "pool_param": ("pool_depth", "pool_height", "pool_width"),
    "bn_param": ("mode",),
    "dropout_param": ("p", "mode"),
}


def dictionaries():
    """(layer, position among its arguments, table of wrong values, the argument's name)."""
    for layer in LAYERS:
        for position, table in enumerate(DICTIONARIES.get(layer.name, ())):
            if table is not None:
                name = table.split()[-1]
                yield pytest.param(layer, position, table, name, id=f"{layer.name}-{name}")


every_layer = pytest.mark.parametrize("layer", LAYERS, ids=str)
every_dictionary = pytest.mark.parametrize(("layer", "position", "table", "name"), [*dictionaries()])


def assert_refused(call, function, *names, kinds=(ValueError, TypeError), shown=("",)):
    """The call raises; the message is `function: ...`, short, has one of the names as a word, and shows one
    of these texts.
    """
    with pytest.raises(kinds) as error:
        call()
    message = error.value.args[0]
    assert message.startswith(f"{function}: "), message
    assert re.search("|".join(rf"\b{name}\b" for name in names), message), message
    assert any(text in message for text in shown), message
    assert len(message) < 500, message


# A value of the right type, where that is not int.
GOOD = {"mode": "train", "algorithm": "auto", "ceil_mode": True, "count_include_pad": True}
GOOD |= {"eps": 1e-5, "p": 0.5, "momentum": 0.9, "running_mean": None, "running_var": None}

# What a wrong value makes of a window, a result or running statistics, where it is not shown itself.
CONSEQUENCES = ("window", "its size would be", "must be numbers, got dtype", "must have shape (4,), got ()")


def forms(value):
    """The value as it may be shown: whole, in part, or as its shape."""
    yield repr(value)
    if isinstance(value, np.ndarray):
        yield str(value.shape)
    if isinstance(value, (tuple, list)) or getattr(value, "ndim", 0):
        for part in value:
            yield from forms(part)


def kinds_of(value, good):
    """Of the errors that refuse the value, where good would be taken."""
    return ValueError if type(value) is type(good) else (ValueError, TypeError)


AS_ROWS = "x as (N, D) is"  # how affine layers show x


def forward(layer, arrays, rest=None):
    return lambda: layer.forward(*arrays, *(layer.rest() if rest is None else rest))


def changed(layer, rng, position, array):
    arrays = layer.arrays(rng)
    arrays[position] = array
    return arrays


@pytest.mark.parametrize("layer", SHAPED, ids=str)
def test_ranks(layer, rng):
    for position, name in enumerate(layer.names):
        array = layer.arrays(rng)[position]
        for wrong in (array[0], array[None], array[..., None], np.zeros(()), array.ravel()):
            if layer.name.startswith("affine") and name == "x" and wrong.shape[-1:] == (1,):
                continue  # the same values in a row
            if layer.name == "softmax" and wrong.ndim >= 2:
                continue  # any number of axes may follow the first two
            if wrong.shape != array.shape:
                call = forward(layer, changed(layer, rng, position, wrong))
                shown = str(wrong.shape), AS_ROWS
                assert_refused(call, f"{layer.name}_forward", name, kinds=ValueError, shown=shown)


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.name in TIED], ids=str)
def test_sizes_that_disagree(layer, rng):
    for position, name in enumerate(layer.names):
        shape = layer.shapes[position]
        for axis in TIED[layer.name][name]:
            for size in {1, shape[axis] - 1, shape[axis] + 1, 2 * shape[axis]} - {shape[axis]}:
                wrong = np.zeros((*shape[:axis], size, *shape[axis + 1 :]))
                call = forward(layer, changed(layer, rng, position, wrong))
                shown = str(wrong.shape), f"({size},)", AS_ROWS
                assert_refused(call, f"{layer.name}_forward", *layer.names, kinds=ValueError, shown=shown)


@pytest.mark.parametrize("layer", SHAPED, ids=str)
def test_empty_dimensions(layer, rng):
    """In every position but that of the batch."""
    for position, name in enumerate(layer.names):
        shape = layer.shapes[position]
        for axis in range(1 if name == "x" else 0, len(shape)):
            wrong = np.zeros((*shape[:axis], 0, *shape[axis + 1 :]))
            call = forward(layer, changed(layer, rng, position, wrong))
            shown = str(wrong.shape), "(0,)", AS_ROWS
            assert_refused(call, f"{layer.name}_forward", *layer.names, kinds=ValueError, shown=shown)


@every_layer
def test_sizes_that_no_memory_holds(layer, rng):
    """Arrays whose strides are 0 may claim any size: neither crash nor wait."""
    for position, name in enumerate(layer.names):
        shape = layer.shapes[position]
        for axis in range(len(shape)):
            huge = np.broadcast_to(np.float64(0), (*shape[:axis], 2**44, *shape[axis + 1 :]))
            arrays = changed(layer, rng, position, huge)
            kinds = (ValueError, TypeError, MemoryError)
            assert_refused(forward(layer, arrays), f"{layer.name}_forward", name, "x", kinds=kinds)


class Tensor:
    """As PyTorch's that has a gradient, or is quantized."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


@every_layer
def test_kinds_of_arrays(layer, rng):
    """Arrays of other dtypes, ragged lists, and what is no array."""
    for position, name in enumerate(layer.names):
        shape = layer.shapes[position]
        for wrong in (
            np.zeros(shape, [("a", np.float64), ("b", np.int32)]),
            np.full(shape, None),
            np.full(shape, 1.0, object),
            np.full(shape, "1"),
            *(np.zeros(shape, kind) for kind in (complex, np.complex64, np.longdouble, "S3", "M8[s]", "V4")),
            [[1, 2], [3]],
            {1.0},
            (value for value in (1.0, 2.0)),
            float,
            None,
            "text",
            object(),
            {},
            Tensor(RuntimeError("call detach() first")),
            Tensor(TypeError("got unsupported ScalarType")),
        ):
            if name == "b" and wrong is None:
                continue  # means no bias
            arrays = changed(layer, rng, position, wrong)
            assert_refused(forward(layer, arrays), f"{layer.name}_forward", name)


@every_dictionary
def test_wrong_values_of_each_key(layer, position, table, name, rng):
    for key, values in WRONG_VALUES[table].items():
        for value in values:
            rest = list(layer.rest())
            rest[position] = {**rest[position], key: value}
            call = forward(layer, layer.arrays(rng), rest)
            shown = *forms(value), *CONSEQUENCES
            kinds = kinds_of(value, GOOD.get(key, 1))
            assert_refused(call, f"{layer.name}_forward", key, "window", kinds=kinds, shown=shown)


@every_dictionary
def test_keys_and_kinds_of_dictionaries(layer, position, table, name, rng):
    rest = list(layer.rest())
    good = rest[position]
    for wrong in (None, [], 3, "text", list(good.items()), object()):
        if wrong is None and name == "conv_param":
            continue  # stride 1, no padding
        rest[position] = wrong
        assert_refused(forward(layer, layer.arrays(rng), rest), f"{layer.name}_forward", name)
    for key in ("strides", "bananas", 1, None, ("pad",)):
        rest[position] = {**good, key: 1}
        assert_refused(forward(layer, layer.arrays(rng), rest), f"{layer.name}_forward", name)
    for key in set(REQUIRED.get(name, ())) & good.keys():
        rest[position] = {other: value for other, value in good.items() if other != key}
        call = forward(layer, layer.arrays(rng), rest)
        assert_refused(call, f"{layer.name}_forward", key, kinds=KeyError)


@pytest.mark.parametrize("G", [0, -1, 3, 5, 2**40, 1.5, None, "2", True, (2, 2), np.ones(2)], ids=repr)
def test_numbers_of_groups(G, rng):
    layer = next(layer for layer in LAYERS if layer.name == "spatial_groupnorm")
    call = forward(layer, layer.arrays(rng), (G, {}))
    assert_refused(call, "spatial_groupnorm_forward", "G", kinds=kinds_of(G, 1), shown=forms(G))


@pytest.mark.parametrize("alpha", [np.nan, np.inf, None, "0.1", 1j, True, [0.1], np.ones(2)], ids=repr)
def test_slopes(alpha):
    call = lambda: cnnlib.leaky_relu_forward(np.ones(3), alpha)  # noqa: E731
    assert_refused(call, "leaky_relu_forward", "alpha", kinds=kinds_of(alpha, 0.1), shown=forms(alpha))


@pytest.mark.parametrize("alpha", [np.nan, np.inf, None, "0.1", 1j, True, [0.1], np.ones(2)], ids=repr)
def test_scales_of_elu(alpha):
    assert_refused(lambda: cnnlib.elu_forward(np.ones(3), alpha), "elu_forward", "alpha")
    assert_refused(lambda: cnnlib.elu_backward(np.ones(3), (np.ones(3), alpha)), "elu_backward", "alpha")


@pytest.mark.parametrize("approximate", ["erf", "", None, 1, True, ["tanh"]], ids=repr)
def test_approximations_of_gelu(approximate):
    assert_refused(lambda: cnnlib.gelu_forward(np.ones(3), approximate), "gelu_forward", "approximate")
    cache = np.ones(3), approximate
    assert_refused(lambda: cnnlib.gelu_backward(np.ones(3), cache), "gelu_backward", "approximate")


SIZES = [0, -1, 2**31, 2**70, (1, 0), (1, 2, 3), (), 1.5, "1", None, True, np.nan, [1, None], {}, np.ones(2)]


@pytest.mark.parametrize("size", SIZES, ids=repr)
@pytest.mark.parametrize("name", ["adaptive_avg_pool", "adaptive_max_pool"])
def test_sizes_of_adaptive_pools(name, size):
    x, dout = np.ones((1, 2, 4, 5)), np.ones((1, 2, 1, 1))
    forward, backward = getattr(cnnlib, f"{name}_forward"), getattr(cnnlib, f"{name}_backward")
    assert_refused(lambda: forward(x, size), forward.__name__, "size")
    assert_refused(lambda: backward(dout, (x, size)), backward.__name__, "size")


@pytest.mark.parametrize("scale", SIZES, ids=repr)
def test_scales_of_upsampling(scale):
    x = np.ones((1, 2, 4, 5))
    assert_refused(lambda: cnnlib.upsample_forward(x, scale), "upsample_forward", "scale")
    cache = x, scale, "nearest", False
    assert_refused(lambda: cnnlib.upsample_backward(x, cache), "upsample_backward", "scale")


@pytest.mark.parametrize(
    ("mode", "align_corners", "name"),
    [
        *[(mode, False, "mode") for mode in ("cubic", "", None, 1, True, ["nearest"])],
        *[("bilinear", flag, "align_corners") for flag in FLAGS],
        ("nearest", True, "align_corners"),
    ],
)
def test_modes_of_upsampling(mode, align_corners, name):
    x = np.ones((1, 2, 4, 5))
    assert_refused(lambda: cnnlib.upsample_forward(x, 1, mode, align_corners), "upsample_forward", name)
    cache = x, 1, mode, align_corners
    assert_refused(lambda: cnnlib.upsample_backward(x, cache), "upsample_backward", name)


@every_layer
def test_douts(layer, rng):
    out, cache = layer.forward(*layer.arrays(rng), *layer.rest())
    function = f"{layer.name}_backward"
    for axis in range(out.ndim):
        for size in (0, out.shape[axis] - 1, out.shape[axis] + 1):
            dout = np.ones((*out.shape[:axis], size, *out.shape[axis + 1 :]))
            assert_refused(lambda dout=dout: layer.backward(dout, cache), function, "dout")
    for dout in (
        out[0],
        out[None],
        out[..., None],
        out.ravel(),
        np.ones(()),
        None,
        "text",
        object(),
        float,
        [[1, 2], [3]],
        out.astype(complex),
        out.astype(object),
        out.astype(str),
        np.zeros(out.shape, [("a", np.float64)]),
        np.broadcast_to(np.float64(0), (2**44, *out.shape[1:])),
    ):
        kinds = (ValueError, TypeError, MemoryError)
        assert_refused(lambda dout=dout: layer.backward(dout, cache), function, "dout", kinds=kinds)


@every_layer
def test_caches_of_other_layers(layer, rng):
    """Refused by name, or the cache of a layer that has the same arguments: its gradients then."""
    out, _ = layer.forward(*layer.arrays(rng), *layer.rest())
    for other in LAYERS:
        theirs, cache = other.forward(*other.arrays(rng), *other.rest())
        for dout in (np.ones(out.shape), np.ones(theirs.shape)):
            try:
                grads = as_tuple(layer.backward(dout, cache))
            except (ValueError, TypeError, KeyError) as error:
                message = error.args[0]
                assert message.startswith(f"{layer.name}_backward: "), (other.name, message)
                named = re.search(r"\b(cache|dout|x|w|b|gamma|mask|\w+_param)\b", message)
                assert named, (other.name, message)
            else:
                assert all(isinstance(grad, np.ndarray) for grad in grads), other.name
                assert layer.names[0] == other.names[0], other.name


@pytest.mark.parametrize("dtype", [complex, object, int, "U3", "M8[s]", [("a", float)]], ids=str)
def test_a_pools_cache_with_another_dtype(dtype):
    shape = (2, 3, 4, 5)
    assert_refused(
        lambda: cnnlib.global_avg_pool_backward(np.ones((2, 3)), (shape, np.dtype(dtype))),
        "global_avg_pool_backward",
        "cache",
    )


def losses(x, y):
    return [lambda loss=loss: loss(x, y) for loss in (cnnlib.softmax_loss, cnnlib.svm_loss)]


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        (np.zeros(4), [0], "x"),
        (np.zeros((3, 4, 1)), [0, 1, 2], "x|y"),
        (np.zeros(()), 0, "x"),
        (np.zeros((3, 0)), [0, 0, 0], "x"),
        (np.zeros((3, 4), complex), [0, 1, 2], "x"),
        (np.full((3, 4), None), [0, 1, 2], "x"),
        (None, [0, 1, 2], "x"),
        ("text", [0, 1, 2], "x"),
        (np.zeros((3, 4)), [0, 1], "y"),
        (np.zeros((3, 4)), [[0], [1], [2]], "y"),
        (np.zeros((3, 4)), 1, "y"),
        (np.zeros((3, 4)), [0, 1, 4], "y"),
        (np.zeros((3, 4)), [0, 1, -1], "y"),
        (np.zeros((3, 4)), np.array([0, 1, 2**64 - 1], np.uint64), "y"),
        (np.zeros((3, 4)), np.array([0, 1, -(2**63)]), "y"),
        (np.zeros((3, 4)), [0, 1, 2**80], "y"),
        (np.zeros((3, 4)), [0, 1.0, 2], "y"),
        (np.zeros((3, 4)), [True, False, True], "y"),
        (np.zeros((3, 4)), ["a", "b", "c"], "y"),
        (np.zeros((3, 4)), [0, None, 2], "y"),
        (np.zeros((3, 4)), [[0, 1], [2]], "y"),
        (np.zeros((3, 4)), np.zeros(3, [("label", int)]), "y"),
        (np.zeros((3, 4)), np.zeros(3, complex), "y"),
        (np.zeros((3, 4)), None, "y"),
        (np.zeros((0, 4)), [0], "y"),
        (np.broadcast_to(0.0, (2**44, 4)), [0], "x|y"),
    ],
    ids=lambda value: getattr(value, "shape", value),
)
def test_losses(x, y, name):
    kinds = (ValueError, TypeError, MemoryError)
    for call, function in zip(losses(x, y), ("softmax_loss", "svm_loss"), strict=True):
        assert_refused(call, function, name, kinds=kinds)


RATES = [-1e-3, np.nan, np.inf, None, "fast", 1j, True, [0.1]]
DECAYS = [-0.1, 1.5, np.nan, None, "slow", True]
STATES = [
    np.zeros(4),
    np.zeros((5, 3)),
    np.zeros(()),
    np.zeros((3, 5), complex),
    "text",
    object(),
    [["a"] * 5] * 3,
]
WRONG_CONFIGS = {
    "sgd": {"learning_rate": RATES},
    "sgd_momentum": {"learning_rate": RATES, "momentum": DECAYS, "velocity": STATES},
    "sgd_nesterov_momentum": {"learning_rate": RATES, "momentum": DECAYS, "velocity": STATES},
    "rmsprop": {"learning_rate": RATES, "decay_rate": DECAYS, "epsilon": EPS, "a": STATES},
    "adam": {
        "learning_rate": RATES,
        "beta1": [*DECAYS, 1],
        "beta2": [*DECAYS, 1],
        "epsilon": EPS,
        "v": STATES,
        "a": STATES,
        "t": [-1, 1.5, "3", True, 2**70],
    },
}
WRONG_CONFIGS["adamw"] = {**WRONG_CONFIGS["adam"], "weight_decay": RATES}
every_rule = pytest.mark.parametrize("name", optim.__all__)


@every_rule
def test_update_rules_arrays(name):
    rule = getattr(optim, name)
    w = np.ones((3, 5))
    for wrong in (
        np.ones((3, 4)),
        np.ones((5, 3)),
        np.ones(15),
        np.ones(()),
        np.ones((3, 5), complex),
        np.full((3, 5), None),
        np.full((3, 5), "1"),
        np.zeros((3, 5), [("a", float)]),
        np.zeros((3, 5), "M8[s]"),
        None,
        "text",
        [[1, 2], [3]],
    ):
        assert_refused(lambda wrong=wrong: rule(w, wrong), name, "dw")
        assert_refused(lambda wrong=wrong: rule(wrong, w), name, "w", "dw")
    np.testing.assert_array_equal(w, np.ones((3, 5)))


def test_a_beta_of_1_is_told_from_those_below_it():
    with pytest.raises(ValueError, match=r"^adam: beta1 must be below 1, got 1"):
        optim.adam(np.ones(3), np.ones(3), {"beta1": 1})


@every_rule
def test_update_rules_configs(name):
    rule = getattr(optim, name)
    w, dw = np.ones((3, 5)), np.ones((3, 5))
    for wrong in ([], 3, "text", object(), types.MappingProxyType({})):
        assert_refused(lambda wrong=wrong: rule(w, dw, wrong), name, "config")
    for key in ("lr", "velocities", 1, None):
        assert_refused(lambda key=key: rule(w, dw, {key: 1}), name, "config")
    for key, values in WRONG_CONFIGS[name].items():
        for value in values:
            call = lambda key=key, value=value: rule(w, dw, {key: value})  # noqa: E731
            assert_refused(call, name, key)
    for scale in (None, "half", 1j, [1.0], np.ones(2)):
        assert_refused(lambda scale=scale: rule(w, dw, scale=scale), name, "scale")
    np.testing.assert_array_equal(w, np.ones((3, 5)))

"""A NaN or an infinity, in any argument or dout of any layer, is in the results where the loops have it."""

import itertools
from dataclasses import replace

import cnnlib
import numpy as np
import pytest
from cnnlib import naive
from cnnlib.inference import prepare
from helpers import LAYERS, as_tuple, random_arrays
from small_graphs import GRAPH_NAMES, net_of, small_graphs

pytestmark = pytest.mark.borders

VALUES = [np.nan, np.inf, -np.inf]
# The loops interpolate by a product of matrices, in which 0 times NaN is NaN all along the axes.
SPREAD_BY_LOOPS = {"upsample"}
PAD = 1  # of the convolutions among LAYERS


def without_winograd(layer):
    """The arguments behind the arrays; Winograd's method spreads a value over its tile."""
    conv_param, *rest = layer.rest()
    return {**conv_param, "algorithm": "direct"}, *rest


def results(forward, backward, arrays, rest, dout):
    out, cache = forward(*arrays, *rest)
    return [out, *as_tuple(backward(dout, cache))]


def in_padded_border(shape):
    """Pixels of images, sequences or volumes that are no further from the border than the padding is wide."""
    border = np.ones(shape, bool)
    border[(..., *[slice(PAD, -PAD)] * (len(shape) - 2))] = False
    return border


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("layer", [x for x in LAYERS if x.name not in SPREAD_BY_LOOPS], ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_value_is_lost_or_spread(layer, value, isa, rng):
    weights = layer.name.startswith("conv")
    arrays, rest = layer.arrays(rng), without_winograd(layer) if weights else layer.rest()
    (dout,) = random_arrays(rng, layer.forward(*arrays, *rest)[0].shape)
    for place, name in enumerate((*layer.names, "dout")):
        own = [array.copy() for array in (*arrays, dout)]
        own[place].flat[own[place].size // 2] = value
        rest = without_winograd(layer) if weights else layer.rest()  # running statistics are written to
        want = results(layer.naive_forward, layer.naive_backward, own[:-1], rest, own[-1])
        rest = without_winograd(layer) if weights else layer.rest()
        got = results(layer.forward, layer.backward, own[:-1], rest, own[-1])
        for result, expected, of in zip(got, want, ("out", *layer.names), strict=True):
            where = f"{value} in {name}, {of}"
            spoilt, spoilt_in_loops = ~np.isfinite(result), ~np.isfinite(expected)
            assert not np.any(spoilt_in_loops & ~spoilt), f"{where}: lost"
            extra = spoilt & ~spoilt_in_loops
            if weights and name == "w" and of == "x":  # zeros around dout, as docs/conventions.md has it
                extra &= ~in_padded_border(result.shape)
            assert not extra.any(), f"{where}: spread"
            infinite = np.isinf(result) & np.isinf(expected)
            np.testing.assert_array_equal(result[infinite], expected[infinite], where)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinity_of_x_stays_one_in_dw(isa, dtype, rng):
    """No method multiplies it by the zeros of lanes that it leaves out, which would give NaN."""
    x, w, b = (array.astype(dtype) for array in random_arrays(rng, (2, 3, 12, 13), (5, 3, 3, 3), (5,)))
    plan = cnnlib.explain(x.shape, w.shape, {"pad": PAD}, dtype).weight_gradient
    methods = [method for method, _ in plan.alternatives if not method.startswith("winograd")]
    (dout,) = (array.astype(dtype) for array in random_arrays(rng, (2, 5, 12, 13)))
    for row, column in itertools.product((0, 5, 11), (0, 6, 9, 12)):
        x_of = x.copy()
        x_of[1, 2, row, column] = np.inf
        _, want, _ = naive.conv_backward_naive(dout, (x_of, w, b, {"pad": PAD}))
        for method in methods:
            _, got, _ = cnnlib.conv_backward(dout, (x_of, w, b, {"pad": PAD, "algorithm": method}))
            infinite = np.isinf(want) | np.isinf(got)
            np.testing.assert_array_equal(got[infinite], want[infinite], f"{method}, {row}, {column}")


def around(pixels):
    """These pixels of images and those next to them."""
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return windows.any(axis=(4, 5))


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize(
    "rest", [(2, "bilinear"), ((2, 3), "bilinear"), (3, "bilinear", True), (2, "nearest")], ids=str
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_upsampling_takes_it_no_further_than_the_next_pixel(rest, value, isa, rng):
    """Of the four pixels around a point some may have the weight 0, and spoil it all the same."""
    layer = next(layer for layer in LAYERS if layer.name == "upsample")
    (x,) = layer.arrays(rng)
    one = np.zeros_like(x)
    one.flat[x.size // 2] = 1
    (dout,) = random_arrays(rng, layer.forward(x, *rest)[0].shape)
    reached, _ = layer.naive_forward(one, *rest)
    at_most, _ = layer.naive_forward(around(one).astype(float), *rest)
    own = np.where(one == 1, value, x)
    spoilt = ~np.isfinite(results(layer.forward, layer.backward, [own], rest, dout)[0])
    assert np.all(reached.astype(bool) <= spoilt)
    assert np.all(spoilt <= at_most.astype(bool))

    one = np.zeros_like(dout)
    one.flat[dout.size // 2] = 1
    _, reached = results(layer.naive_forward, layer.naive_backward, [x], rest, one)
    own = np.where(one == 1, value, dout)
    spoilt = ~np.isfinite(results(layer.forward, layer.backward, [x], rest, own)[1])
    assert np.all(reached.astype(bool) <= spoilt)
    assert np.all(spoilt <= around(reached))


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("name", GRAPH_NAMES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_prepared_networks_have_it_where_their_layers_have(name, value, rng):
    nodes, params = next((nodes, params) for own, nodes, params in small_graphs(rng) if own == name)
    direct = {"algorithm": "direct"}
    nodes = [
        replace(node, args=({**node.args[0], **direct},)) if node.layer == "conv" else node for node in nodes
    ]
    net = net_of(nodes, params)
    x = rng.standard_normal((3, 4, 7, 7))
    x[1, 2, 3, 4] = value
    want, got = net.loss(x), prepare(net)(x)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    infinite = np.isinf(got) & np.isinf(want)
    np.testing.assert_array_equal(got[infinite], want[infinite])

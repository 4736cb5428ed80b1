"""Caches: the compiled layers and the loops take each other's, and every other is refused by name."""

import re

import numpy as np
import pytest
from cnnlib import _core
from helpers import LAYERS, TOLERANCE, as_tuple, assert_close, cast, random_arrays

pytestmark = [pytest.mark.borders, pytest.mark.smoke]

every_layer = pytest.mark.parametrize("layer", LAYERS, ids=str)
BN_TEST = {"mode": "test", "running_mean": np.linspace(-1, 1, 4), "running_var": np.linspace(0.5, 2, 4)}


def with_mode(layer, mode):
    """What follows the arrays, batch norms and dropout in this mode."""
    rest = layer.rest()
    for param in rest:
        if isinstance(param, dict) and "mode" in param:
            param.update(mode=mode)
            if mode == "test" and "p" not in param:
                param.update(BN_TEST)
    return rest


@pytest.mark.parametrize(
    ("layer", "mode"),
    [
        pytest.param(layer, mode, id=f"{layer}-{mode}")
        for layer in LAYERS
        for mode in ("train", "test")
        if mode == "train" or any(isinstance(param, dict) and "mode" in param for param in layer.rest())
    ],
)
def test_caches_of_compiled_and_naive_layers_are_interchangeable(layer, mode, dtype, rng):
    arrays = layer.arrays(rng)
    want_out, naive_cache = layer.naive_forward(*arrays, *with_mode(layer, mode))
    (dout,) = random_arrays(rng, want_out.shape)
    wants = as_tuple(layer.naive_backward(dout, naive_cache))

    arrays, dout = cast(arrays, dtype), dout.astype(dtype)
    _, compiled_cache = layer.forward(*arrays, *with_mode(layer, mode))
    _, naive_cache = layer.naive_forward(*arrays, *with_mode(layer, mode))
    from_naive = as_tuple(layer.backward(dout, naive_cache))
    from_compiled = as_tuple(layer.naive_backward(dout, compiled_cache))
    by_hand = as_tuple(layer.backward(dout, plain(compiled_cache)))
    # Batch norm takes the mean away, so that a bias before it has no gradient but rounding.
    scale = np.max(np.abs(dout)) if "bn" in layer.name else 0.0
    for got, other, third, want in zip(from_naive, from_compiled, by_hand, wants, strict=True):
        assert_close(got, want, dtype, scale=scale)
        assert_close(third, want, dtype, scale=scale)
        assert other.dtype == dtype
        atol = 4 * TOLERANCE[np.dtype(dtype)] * max(np.max(np.abs(want)), scale)
        np.testing.assert_allclose(other, want, rtol=0, atol=atol)


def plain(cache):
    """A cache without what it remembers beside its parts."""
    return tuple(map(plain, cache)) if isinstance(cache, tuple) else cache


def layout(cache):
    """A cache's tuples with its arrays as shapes and dtypes."""
    if isinstance(cache, (tuple, list)):
        return tuple(layout(part) for part in cache)
    return (cache.shape, cache.dtype) if isinstance(cache, np.ndarray) else cache


@every_layer
def test_caches_have_one_layout(layer, dtype, rng):
    arrays = layer.arrays(rng, dtype)
    _, compiled = layer.forward(*arrays, *(rest := layer.rest()))
    _, loops = layer.naive_forward(*arrays, *rest)
    # A dropout's parameters compare as dicts; statistics that were written back to them are arrays.
    for param in rest:
        if isinstance(param, dict):
            param.pop("running_mean", None)
            param.pop("running_var", None)
    assert layout(compiled) == layout(loops)


@every_layer
def test_half_precision_gradients_have_its_dtype(layer, rng):
    """Sandwiches hold results in float32 between their layers, and yet the arguments' own dtype."""
    arrays = layer.arrays(rng, np.float16)
    out, cache = layer.forward(*arrays, *layer.rest())
    assert [gradient.dtype for gradient in as_tuple(layer.backward(out, cache))] == [np.float16] * len(arrays)


@every_layer
def test_something_else_is_refused(layer, rng):
    dout = np.ones(layer.forward(*layer.arrays(rng), *layer.rest())[0].shape)
    for wrong in (None, 3, "cache", (), (1,), (None, None), {}, (1, 2, 3, 4, 5)):
        with pytest.raises((TypeError, ValueError), match=re.escape(layer.backward.__name__)) as error:
            layer.backward(dout, wrong)
        assert "cache" in str(error.value) or "dout" in str(error.value)


def altered(cache):
    """The cache with each of its parts in turn None, a text, left out, or of another shape or kind."""
    if isinstance(cache, np.ndarray):
        yield from (None, "text", cache[..., None, None], cache.astype(complex))
        return
    if not isinstance(cache, tuple):
        yield from (None, "text", -7)
        return
    yield cache[:-1]
    yield (*cache, None)
    for i, part in enumerate(cache):
        for other in altered(part):
            yield (*cache[:i], other, *cache[i + 1 :])


@every_layer
def test_altered_caches_are_refused_by_name_or_of_no_consequence(layer, rng):
    """A part that a backward pass does not need (a bias, beta, a dropout's parameters) may be anything."""
    arrays = layer.arrays(rng)
    out, cache = layer.forward(*arrays, *layer.rest())
    dout, messages = np.ones(out.shape), []
    for other in altered(cache):
        try:
            grads = as_tuple(layer.backward(dout, other))
        except (TypeError, ValueError, KeyError) as error:
            messages.append(str(error))
        else:
            assert all(grad is None or isinstance(grad, np.ndarray) for grad in grads)
    assert len(messages) >= 3
    for message in messages:
        assert layer.backward.__name__ in message
        assert len(message) < 300  # no arrays in it


@every_layer
def test_gradients_do_not_change_with_the_returned_array(layer, dtype, rng):
    """`out += shortcut` is the caller's right; so is a buffer that the next call writes to."""
    arrays = layer.arrays(rng, dtype)
    for forward, backward in [(layer.forward, layer.backward), (layer.naive_forward, layer.naive_backward)]:
        out, cache = forward(*arrays, *layer.rest())
        dout = rng.standard_normal(out.shape).astype(dtype)
        wants = as_tuple(backward(dout, cache))
        for value in (0, np.nan):
            out[...] = value
            for got, want in zip(as_tuple(backward(dout, cache)), wants, strict=True):
                np.testing.assert_array_equal(got, want)


def test_masks_of_relu(isa, dtype, rng):
    """A bit where the gradient passes, in the order of np.packbits; neither zero passes, NaN does."""
    special = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 5e-324, -5e-324, 1e-45, -1e-45], dtype)
    for size in (0, 1, 2, 7, 8, 9, 31, 63, 64, 65, 127, 130, 1000, 32768 * 3 + 5):
        x = rng.standard_normal(size).astype(dtype)
        where = rng.integers(0, 2 * special.size, size)
        x = np.where(where < special.size, special[where % special.size], x)
        mask = _core.relu_mask("f", x)
        np.testing.assert_array_equal(mask, np.packbits(~(x <= 0), bitorder="little"))
        dout = rng.standard_normal(size).astype(dtype)
        dx = _core.relu_backward_by_mask("f", dout, mask)
        np.testing.assert_array_equal(dx, np.where(x <= 0, 0, dout))
        np.testing.assert_array_equal(dx, _core.relu_backward("f", dout, x))


def test_masks_of_large_results(isa, dtype):
    """Written around the caches."""
    x = np.resize(np.arange(-50, 51).astype(dtype), 9_000_007)
    dx = _core.relu_backward_by_mask("f", x, _core.relu_mask("f", x))
    np.testing.assert_array_equal(dx, np.maximum(x, 0))


@pytest.mark.parametrize("name", ["affine_relu", "conv_relu"])
def test_the_cache_holds_a_bit_for_each_element_of_the_result(name, rng):
    layer = next(layer for layer in LAYERS if layer.name == name)
    out, (_, (shape, bits)) = layer.forward(*layer.arrays(rng), *layer.rest())
    assert shape == out.shape
    assert bits.nbytes == -(-out.size // 8)
    assert not np.shares_memory(bits, out)


@pytest.mark.parametrize("name", ["affine_relu", "conv_relu"])
def test_a_forged_mask_is_refused_by_name(name, rng):
    layer = next(layer for layer in LAYERS if layer.name == name)
    out, (cache, (shape, bits)) = layer.forward(*layer.arrays(rng), *layer.rest())
    for wrong in (
        bits[:-1],
        np.append(bits, bits[:1]),
        bits[None],
        bits[::2],
        bits.astype(np.int8),
        out,
        3,
        None,
    ):
        with pytest.raises((ValueError, TypeError), match=f"{name}_backward: ReLU's mask in cache must"):
            layer.backward(out, (cache, (shape, wrong)))
    for wrong in (shape[1:], (*shape, 1), tuple(-size for size in shape), (None,) * len(shape), 3, None, []):
        with pytest.raises(ValueError, match=f"{name}_backward: dout must have shape"):
            layer.backward(out, (cache, (wrong, bits)))

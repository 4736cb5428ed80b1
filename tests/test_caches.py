"""Caches: the compiled layers and the loops take each other's, and every other is refused by name."""

import re

import numpy as np
import pytest
from helpers import LAYERS, TOLERANCE, as_tuple, assert_close, cast, random_arrays

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


@every_layer
@pytest.mark.parametrize("mode", ["train", "test"])
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
    # Batch norm takes the mean away, so that a bias before it has no gradient but rounding.
    scale = np.max(np.abs(dout)) if "bn" in layer.name else 0.0
    for got, other, want in zip(from_naive, from_compiled, wants, strict=True):
        assert_close(got, want, dtype, scale=scale)
        assert other.dtype == dtype
        atol = 4 * TOLERANCE[np.dtype(dtype)] * max(np.max(np.abs(want)), scale)
        np.testing.assert_allclose(other, want, rtol=0, atol=atol)


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
@pytest.mark.parametrize("wrong", [None, 3, "cache", (), (1,), (None, None), {}, (1, 2, 3, 4, 5)], ids=str)
def test_something_else_is_refused(layer, wrong, rng):
    dout = np.ones(layer.forward(*layer.arrays(rng), *layer.rest())[0].shape)
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

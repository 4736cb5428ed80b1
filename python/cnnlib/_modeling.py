"""What the models share: drawing of weights, dropout masks, regularisation, checks of arguments."""

import numbers
import zlib

import numpy as np

from cnnlib._params import integer, number
from cnnlib.layers import softmax_loss

__all__ = [
    "add_l2",
    "mask_seed",
    "positive_int",
    "probability",
    "random_stream",
    "real_dtype",
    "set_mask_seed",
    "set_mode",
    "smoothed_softmax_loss",
]


def random_stream(seed, where):
    """``np.random`` itself for None, otherwise a stream of its own, which leaves the global one alone."""
    if seed is None:
        return np.random
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"{where}: seed must be None or an integer in 0 .. 2**32 - 1, got {seed!r}")
    return np.random.RandomState(int(seed))


def mask_seed(seed, X, layer):
    """Seed of a dropout layer's mask for the minibatch X: the same X gives the same mask, another X another.

    So the loss of a seeded model is a function of its parameters, which numeric gradients need, while
    every minibatch of a training run still gets masks of its own, in any order and after any restart.
    """
    content = zlib.crc32(np.ascontiguousarray(X))
    return int(np.random.SeedSequence([int(seed), content, layer]).generate_state(1)[0] >> 1)


def set_mask_seed(dropout_param, model, X, layer):
    """Say where a dropout layer's next mask comes from: the model's `seed`, its `rng`, or ``np.random``."""
    dropout_param.pop("seed", None)
    if model.seed is not None:
        dropout_param["seed"] = mask_seed(model.seed, X, layer)
    elif model.rng is not None:
        is_generator = isinstance(model.rng, np.random.Generator)
        dropout_param["seed"] = int((model.rng.integers if is_generator else model.rng.randint)(2**31))


def add_l2(params, grads, reg):
    """Add ``reg * W`` to the gradient of each ``W*`` in `grads`; return ``reg / 2 * sum(W**2)`` over them."""
    if reg == 0:
        return 0.0
    total = 0.0
    for name, w in params.items():
        if name.startswith("W") and name in grads:
            grads[name] = grads[name] + reg * w
            total += float(np.sum(w * w, dtype=np.float64))
    return 0.5 * reg * total


def smoothed_softmax_loss(scores, y, label_smoothing):
    """Softmax loss for targets ``1 - label_smoothing`` at the label plus ``label_smoothing / C`` everywhere.

    -log p[c] is the same for all c but for the score x[c], so against the plain loss only ``label_smoothing *
    (x[y] - mean(x))`` comes in (Szegedy et al. 2015, arXiv:1512.00567, section 7).
    """
    loss, dscores = softmax_loss(scores, y)
    if label_smoothing:
        N, C = scores.shape
        rows = np.arange(N)
        loss += label_smoothing * float(np.mean(scores[rows, y] - scores.mean(axis=1), dtype=np.float64))
        dscores[rows, y] += label_smoothing / N
        dscores -= label_smoothing / (N * C)
    return loss, dscores


def set_mode(params, train):
    """Put every batch-norm (or dropout) dict into 'train' or 'test' mode."""
    for param in params:
        param["mode"] = "train" if train else "test"


def positive_int(where, name, value):
    """`value` as an int of at least 1."""
    value = integer(where, name, value)
    if value < 1:
        raise ValueError(f"{where}: {name} must be at least 1, got {value}")
    return value


def probability(where, name, value):
    """`value` as a float in [0, 1)."""
    value = number(where, name, value, 0, 1)
    if value == 1:
        raise ValueError(f"{where}: {name} must be below 1, got {value}")
    return value


def real_dtype(where, dtype):
    """`dtype` as float32 or float64, the dtypes that training is meant for."""
    dtype = np.dtype(dtype)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"{where}: dtype must be float32 or float64, got {dtype}")
    return dtype

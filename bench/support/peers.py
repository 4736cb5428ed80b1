"""A convolution in cnnlib, PyTorch and JAX: the same arrays, the same results, each by its public functions.

Every side offers `forward(case, arrays)` and `backward(case, arrays)`, which return a call without arguments,
and `arrays_of(result)`, which turns what the call returns into NumPy arrays. `arrays` are x, w, b and dout.
"""

from __future__ import annotations

import contextlib
import os

import numpy as np


def sides(names, threads):
    """cnnlib's side and a dict of the peers', all set to use `threads` threads.

    The peers are loaded first: PyTorch then runs on the OpenMP runtime that it brings along, as when alone.
    """
    peers = {name: {"torch": Torch, "jax": Jax}[name](threads) for name in names}
    return Cnnlib(threads), peers


class Cnnlib:
    def __init__(self, threads):
        import cnnlib

        cnnlib.set_num_threads(threads)
        self.layers = cnnlib.layers

    def forward(self, case, arrays, algorithm="auto"):
        x, w, b, _ = arrays
        conv_forward, param = self.layers.conv_forward, {**case.conv_param, "algorithm": algorithm}
        return lambda: conv_forward(x, w, b, param)[0]

    def backward(self, case, arrays, algorithm="auto", needs=None):
        x, w, b, dout = arrays
        cache, needs = (x, w, b, {**case.conv_param, "algorithm": algorithm}), needs or case.needs
        conv_backward = self.layers.conv_backward
        return lambda: conv_backward(dout, cache, needs=needs)

    def arrays_of(self, result):
        return result if isinstance(result, tuple) else (result,)


class Torch:
    """Eager PyTorch on plain NCHW arrays; backward is the operator that autograd calls, without autograd."""

    def __init__(self, threads):
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        self.session = torch.inference_mode

    def forward(self, case, arrays):
        x, w, b, _ = map(self.torch.from_numpy, arrays)
        conv2d, stride, pad, dilation, groups = self.torch.conv2d, *_windows(case)
        return lambda: conv2d(x, w, b, stride, pad, dilation, groups)

    def backward(self, case, arrays):
        x, w, b, dout = map(self.torch.from_numpy, arrays)
        stride, pad, dilation, groups = _windows(case)
        backward, mask = self.torch.ops.aten.convolution_backward.default, _mask(case)
        rest = ([len(b)], stride, pad, dilation, False, [0, 0], groups, mask)
        return lambda: backward(dout, x, w, *rest)

    def arrays_of(self, result):
        parts = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(None if part is None else part.numpy() for part in parts)


class Jax:
    """JAX, compiled for each shape before it is timed; its threads come from the environment."""

    def __init__(self, threads):
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)
        self.jax = jax
        self.session = contextlib.nullcontext

    def _conv(self, case):
        stride, pad, dilation, groups = _windows(case)
        conv = self.jax.lax.conv_general_dilated
        options = {"rhs_dilation": dilation, "feature_group_count": groups}
        pads = [(pad[0], pad[0]), (pad[1], pad[1])]
        return lambda x, w, b: conv(x, w, stride, pads, **options) + b[:, None, None]

    def forward(self, case, arrays):
        x, w, b, _ = map(self.jax.numpy.asarray, arrays)
        call = self.jax.jit(self._conv(case))
        return lambda: call(x, w, b).block_until_ready()

    def backward(self, case, arrays):
        x, w, b, dout = map(self.jax.numpy.asarray, arrays)
        conv, mask = self._conv(case), _mask(case)

        def gradients(x, w, b, dout):
            grads = self.jax.vjp(conv, x, w, b)[1](dout)
            return tuple(grad if wanted else None for grad, wanted in zip(grads, mask))

        call, ready = self.jax.jit(gradients), self.jax.block_until_ready
        return lambda: ready(call(x, w, b, dout))

    def arrays_of(self, result):
        parts = result if isinstance(result, tuple) else (result,)
        return tuple(None if part is None else np.asarray(part) for part in parts)


def shares_pool(name):
    """Whether the side computes on the same threads as cnnlib: those of the one OpenMP runtime loaded."""
    return name.startswith("torch") and len(openmp_runtimes()) <= 1


def openmp_runtimes():
    """File names of the OpenMP runtimes in this process; PyTorch's often serves cnnlib too."""
    found = set()
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            file = os.path.basename(line.split(maxsplit=5)[-1].strip())
            if file.startswith(("libgomp", "libomp", "libiomp")):
                found.add(file)
    return sorted(found)


def _windows(case):
    return [case.stride] * 2, list(case.pad), [case.dilation] * 2, case.groups


def _mask(case):
    return [name in case.needs for name in ("dx", "dw", "db")]

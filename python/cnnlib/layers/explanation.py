"""How convolutions are computed: the method of each pass, what it would cost, and what else fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from cnnlib import _core
from cnnlib._params import real_dtype
from cnnlib._system.text import size_text
from cnnlib.typing import ConvParam


@dataclass(frozen=True)
class PassPlan:
    """What one pass of a convolution does.

    Attributes
    ----------
    method : str
        The method's name, which `conv_param['algorithm']` takes.
    cost : float
        Estimated cycles of one image on a reference processor of the instruction set, on one thread.
    tile : (int, int)
        Outputs of the micro-kernel (rows, columns), or of a Winograd tile.
    blocks : dict of str to int
        The sizes that the work is cut by.
    threads : int
        For a batch of the shape's size.
    scratch_bytes, packed_bytes : int
        Memory of all threads, and of the packed weights (0 where they are read as they are or packed panel
        by panel).
    alternatives : list of (str, float)
        All methods that fit and their costs, the cheapest first.
    """

    method: str
    cost: float
    tile: tuple[int, int]
    blocks: dict[str, int]
    threads: int
    scratch_bytes: int
    packed_bytes: int
    alternatives: list[tuple[str, float]]


@dataclass(frozen=True)
class ConvExplanation:
    """
    The plans of a convolution's passes; its `str` is a table.

    `conv_bn_relu_scratch_bytes` is the memory of all threads in `conv_bn_relu_forward` (in mode 'train') and
    in `conv_bn_relu_backward`. `problem` is the convolution as one line, which a report of a bug should have:
    ``python tests/problems/driver.py`` in cnnlib's sources runs it again.
    """

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    dtype: str
    isa: str
    forward: PassPlan
    input_gradient: PassPlan
    weight_gradient: PassPlan
    conv_bn_relu_scratch_bytes: tuple[int, int]
    problem: str

    def __str__(self) -> str:
        l1, l2, _ = _core.caches()
        lines = [
            f"x {self.x_shape}, w {self.w_shape}, {self.dtype}, {self.isa}, "
            f"caches of {size_text(l1)} and {size_text(l2)}"
        ]
        passes = {"forward": self.forward, "dx": self.input_gradient, "dw": self.weight_gradient}
        for name, plan in passes.items():
            best = ", ".join(f"{method} {_cycles(cost)}" for method, cost in plan.alternatives[:3])
            blocks = ", ".join(f"{size} {what}" for what, size in plan.blocks.items())
            lines += [
                f"{name:8} {plan.method:19} tile {plan.tile[0]}x{plan.tile[1]}, {plan.threads} threads, "
                f"scratch {size_text(plan.scratch_bytes)}, packed weights {size_text(plan.packed_bytes)}",
                f"         cycles an image: {best}",
                f"         blocks: {blocks or 'none'}",
            ]
        return "\n".join([*lines, f"problem  {self.problem}"])


def explain(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    conv_param: ConvParam | None = None,
    dtype: DTypeLike = np.float32,
) -> ConvExplanation:
    """
    Tell how `conv_forward` and `conv_backward` compute a convolution.

    Parameters
    ----------
    x_shape : tuple of int, (N, C, H, W)
    w_shape : tuple of int, (F, C / groups, KH, KW)
    conv_param : dict, optional
        As in `conv_forward`; an `algorithm` in it is obeyed.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    ConvExplanation
        With `forward`, `input_gradient` and `weight_gradient`.

    Raises
    ------
    ValueError, TypeError
        As in `conv_forward`.

    Examples
    --------
    >>> plans = explain((8, 64, 56, 56), (64, 64, 3, 3), {"stride": 1, "pad": 1})
    >>> plans.forward.method
    'winograd'
    >>> plans.weight_gradient.cost > 0, plans.forward.method in str(plans)
    (True, True)

    The line that runs it again begins with the layer, the dtype and the instruction set:

    >>> plans.problem.split()[:2], plans.problem.split()[3]
    (['conv', 'f32'], 'n8c64h56f64k3p1')
    """
    dtype = real_dtype("explain", dtype, TypeError)
    x, w = _untouched("x_shape", x_shape, dtype), _untouched("w_shape", w_shape, dtype)
    param = {} if conv_param is None else conv_param
    forward, dx, dw = (PassPlan(*plan) for plan in _core.conv_plans(x, w, param))
    scratch = _core.conv_bn_relu_scratch(x, w, param)
    line = _problem(x.shape, w.shape, param, dtype)
    return ConvExplanation(x.shape, w.shape, dtype.name, _core.active_isa(), forward, dx, dw, scratch, line)


def _problem(x_shape, w_shape, param, dtype):
    """The line of a convolution: a letter and a number for each size; what says nothing is left out."""
    (N, C, H, W), (F, _, KH, KW) = x_shape, w_shape
    sizes = f"n{N}c{C}h{H}" + (f"w{W}" if W != H else "") + f"f{F}k{_times((KH, KW))}"
    for letter, key in (("s", "stride"), ("r", "dilation"), ("g", "groups")):
        numbers = _times(np.broadcast_to(param.get(key, 1), 2).tolist())
        sizes += f"{letter}{numbers}" if numbers != "1" else ""
    words = []
    pad = param.get("pad", 0)
    if isinstance(pad, str):
        words.append(f"pad={pad}")
    else:  # first and last of each axis, which are mostly the same
        ends = [np.broadcast_to(each, 2).tolist() for each in (pad if np.iterable(pad) else (pad, pad))]
        symmetric = all(first == last for first, last in ends)
        numbers = "x".join(str(end) for both in ends for end in both)
        numbers = _times([first for first, _ in ends]) if symmetric else numbers
        sizes += f"p{numbers}" if numbers != "0" else ""
    algorithm = param.get("algorithm", "auto")
    algorithm = _core.get_conv_algorithm() if algorithm == "auto" else algorithm
    words += [f"algorithm={algorithm}"] if algorithm != "auto" else []
    short = {"float32": "f32", "float64": "f64"}[dtype.name]
    return " ".join(["conv", short, _core.active_isa(), sizes, f"t{_core.get_num_threads()}", *words])


def _times(numbers):
    """Numbers with a cross between, or one where they are the same."""
    return "x".join(map(str, numbers if len(set(numbers)) > 1 else numbers[:1]))


def _untouched(name, shape, dtype):
    """An array that nobody touches: its memory is that of one value."""
    if isinstance(shape, np.ndarray) and shape.ndim > 1:
        raise ValueError(f"explain: {name} must be a shape, such as {shape.shape}, not the array itself")
    shape = tuple(shape) if np.iterable(shape) else (shape,)
    if len(shape) != 4 or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
        raise ValueError(f"explain: {name} must be four whole numbers, got {shape}")
    try:
        return np.asarray(_Claim(np.empty(1, dtype), shape))
    except ValueError:
        raise ValueError(f"explain: {name} {shape} is larger than any array") from None


class _Claim:
    """One value that says to be an array of `shape`."""

    def __init__(self, value, shape):
        self.value = value
        self.__array_interface__ = {**value.__array_interface__, "shape": shape}


def _cycles(n):
    return f"{n / 1e6:.3g}M" if n >= 1e6 else f"{n / 1e3:.3g}k" if n >= 1e3 else f"{n:.0f}"

"""What the operators take: CPU tensors as arrays on the same memory, and PyTorch's number of threads.

PyTorch and cnnlib mostly load one OpenMP library (the first of the name ``libgomp.so.1``), and then share its
threads and their number. Where each has a library of its own, `torch_threads` keeps cnnlib's kernels to
PyTorch's number; the two work in turn, so there are never more running threads than that.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch.autograd import forward_ad

from cnnlib import _core

HALVES = (torch.float16, torch.bfloat16)


def prepare(function: str, names: Sequence[str], *tensors: Any) -> tuple[list[Any], torch.dtype]:
    """`tensors` contiguous and of one floating dtype, and the dtype that the result has.

    None stays None. Different dtypes are promoted, 16-bit floats are computed in float32. All of it is
    differentiable; a tensor that needs no change is itself. TypeError for what is no dense tensor of a
    floating dtype, ValueError for one on another device than the CPU.
    """
    for name, tensor in zip(names, tensors):
        if tensor is not None:
            check(function, name, tensor)
    dtypes = [tensor.dtype for tensor in tensors if tensor is not None]
    dtype = functools.reduce(torch.promote_types, dtypes)
    compute = torch.float32 if dtype in HALVES else dtype
    return [None if t is None else t.to(compute).contiguous() for t in tensors], dtype


def check(function: str, name: str, tensor: Any) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{function}: {name} must be a tensor, got {type(tensor).__name__}")
    if tensor.device.type not in ("cpu", "meta"):
        raise ValueError(f"{function}: {name} is on {tensor.device}; cnnlib computes on the CPU")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{function}: {name} must be a dense tensor, got the layout {tensor.layout}")
    if tensor.dtype not in (torch.float32, torch.float64, *HALVES):
        raise TypeError(
            f"{function}: {name} has dtype {tensor.dtype}; float32, float64, float16 and bfloat16 are "
            "supported"
        )
    if forward_ad.unpack_dual(tensor).tangent is not None:  # PyTorch's operators of our kind would drop it
        raise NotImplementedError(
            f"{function}: {name} has a tangent; forward-mode derivatives are not supported"
        )


def operator(name: str, arguments: str, results: int = 1) -> Callable[..., Any]:
    """Make a function PyTorch's operator ``cnnlib::name``, of CPU tensors, none of which it changes."""
    returned = ", ".join(["Tensor"] * results)
    schema = f"({arguments}) -> ({returned})"
    return torch.library.custom_op(f"cnnlib::{name}", mutates_args=(), device_types="cpu", schema=schema)


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """A CPU tensor as an array on the same memory."""
    return tensor.detach().numpy(force=True)


def from_array(array: NDArray[Any]) -> torch.Tensor:
    """An array of a kernel as a tensor on the same memory."""
    return torch.from_numpy(array)


def pair(function: str, name: str, value: Any) -> list[int]:
    """An int for both axes, or a sequence of one or two, as PyTorch takes them."""
    if isinstance(value, (tuple, list)):
        if len(value) not in (1, 2):
            raise ValueError(
                f"{function}: {name} must be an integer or (vertical, horizontal), got {value!r}"
            )
        return [*value, *value][:2]
    return [value, value]


@contextlib.contextmanager
def torch_threads() -> Iterator[None]:
    """Within the block kernels use at most as many threads as PyTorch does in the calling thread."""
    # Asked first: it also makes PyTorch tell the shared OpenMP library its number for this thread.
    wanted, own = torch.get_num_threads(), _core.get_num_threads()
    if wanted >= own:
        yield
        return
    _core.set_num_threads(wanted)
    try:
        yield
    finally:
        _core.set_num_threads(own)

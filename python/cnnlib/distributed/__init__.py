"""Data-parallel training on MPI, by way of mpi4py: what :class:`cnnlib.solver.Solver` does with its `comm`.

>>> from cnnlib.distributed import world
>>> Solver(model, data, comm=world(), ...).train()  # under mpiexec -n 4 python script.py

docs/distributed.md says how to launch a run, and what to expect of it.
"""

from cnnlib.distributed.communicator import MPIComm, SerialComm, world
from cnnlib.distributed.failures import OutOfStepError

__all__ = ["MPIComm", "OutOfStepError", "SerialComm", "world"]

"""A communicator that notes what its messages take."""

from __future__ import annotations

import time

from cnnlib.distributed import MPIComm


class TimedComm(MPIComm):
    """Notes the seconds and bytes of each joining of gradients, in `joined`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.joined = []

    def add(self, array):
        started = time.perf_counter()
        super().add(array)
        self.joined.append((time.perf_counter() - started, array.nbytes))

    def gather_rows(self, rows, counts):
        started = time.perf_counter()
        super().gather_rows(rows, counts)
        self.joined.append((time.perf_counter() - started, rows.nbytes))

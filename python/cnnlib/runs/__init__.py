"""The folder of a training run: what lies in it, how it is read, how it is written.

The library reads it: :func:`cnnlib.load` returns the run's model. ``cnnlib train`` writes it.
"""

from cnnlib.runs.folder import Run

__all__ = ["Run"]

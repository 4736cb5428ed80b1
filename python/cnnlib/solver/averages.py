"""Weights beside those that are trained: their moving average, or lookahead's slow weights.

Batch-norm statistics take part. `state` is a snapshot, see :mod:`cnnlib.models.state`.
"""

from __future__ import annotations

import contextlib

from cnnlib.models.state import average_into, restore, snapshot


class MovingAverage:
    """After iteration t ``state = d * state + (1 - d) * new``; ``d = min(decay, (1 + t) / (10 + t))``."""

    def __init__(self, model, decay):
        self.decay = decay
        self.state = snapshot(model)

    def after_iteration(self, model, t, total):
        """Take account of the model's parameters after iteration `t` (1, 2, ...) of `total`."""
        average_into(self.state, model, 1 - min(self.decay, (1 + t) / (10 + t)))


class Lookahead:
    """Every `steps` iterations: ``state = d * state + (1 - d) * new``, and the model goes on from there.

    ``d = decay**steps * (t / total)**power`` grows with the iterations t.
    """

    def __init__(self, model, steps, decay, power):
        self.steps, self.decay, self.power = steps, decay, power
        self.state = snapshot(model)

    def after_iteration(self, model, t, total):
        """The same; every few iterations the model moves onto the slow weights."""
        if t % self.steps == 0:
            d = self.decay**self.steps * min(t / total, 1.0) ** self.power
            average_into(self.state, model, 1 - d)
            restore(model, self.state)


def build_averages(model, ema_decay, lookahead):
    """What the Solver's options of these names ask for; None for neither."""
    if lookahead is not None:
        return Lookahead(model, **lookahead)
    return None if ema_decay is None else MovingAverage(model, ema_decay)


@contextlib.contextmanager
def held(averages, model):
    """Let the model hold the averages, if there are any."""
    if averages is None:
        yield
        return
    newest = snapshot(model)
    restore(model, averages.state)
    try:
        yield
    finally:
        restore(model, newest)

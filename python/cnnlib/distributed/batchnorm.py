"""Batch norm over the whole minibatch, of which each rank holds a share.

The ranks exchange counts, means and variances, and combine them (Chan, Golub and LeVeque 1979); in the
backward pass they exchange the sums that dx needs.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib.graph.ops import layers_where
from cnnlib.graph.run import Run
from cnnlib.layers.norm.batch import _moved, batch_options, running_statistics
from cnnlib.models.program import Program, Step


def refuse_without_graph(model: Any) -> None:
    """Refuse a model with batch norms that cannot be reached from here."""
    if getattr(model, "bn_params", None) and not hasattr(model, "_program"):
        raise ValueError(
            f"Solver: batchnorm_statistics='global' needs a model of cnnlib; the batch norms of a "
            f"{type(model).__name__} are its own affair"
        )


@contextlib.contextmanager
def synchronized(model: Any, comm: Any):
    """Let the batch norms of a graph take the statistics of the whole minibatch during the block."""
    plain = getattr(model, "_program", None)
    if plain is None:
        yield
        return

    def norm(node, frozen):
        return SynchronizedNorm(node, frozen, comm)

    special = dict.fromkeys(layers_where(lambda op: op.norm == "batch"), norm)
    model._program = Program(plain.where, model.graph(), getattr(model, "frozen", ()), special)
    try:
        yield
    finally:
        model._program = plain


class SynchronizedNorm(Step):
    """A batch norm whose mean and variance are those of all ranks' samples together.

    In test mode, also of one that is frozen, it is the ordinary one.
    """

    def __init__(self, node, frozen, comm):
        super().__init__(node, frozen)
        self.comm, self.layer = comm, node.layer
        self.ndim = 4 if node.layer == "spatial_batchnorm" else 2

    def forward(self, run: Run, *xs: Any) -> tuple[Any, Any]:
        (x,) = xs
        (gamma, beta), (bn_param,) = self._values(run)
        mode, eps, momentum = batch_options(self.layer, bn_param)
        if mode == "test":
            return super().forward(run, x)
        _, mean, var, _ = _core.batchnorm_train(self.layer, x, self.ndim, gamma, beta, eps)
        count = x.size // x.shape[1]
        mean, var = self._combined(count, mean, var)
        inv_std = 1 / np.sqrt(var + eps)
        out = _core.batchnorm_normalize(self.layer, x, self.ndim, mean, inv_std, gamma, beta)
        running = running_statistics(self.layer, bn_param, x.shape[1:2], x.dtype)
        run.move(self.node.statistics_of, *_moved(self.layer, running, (mean, var), momentum))
        return out, (x, gamma, mean, inv_std, count)

    def backward(self, dout, cache, grads):
        """dx = gamma * inv_std * (dout - mean(dout) - xhat * mean(dout * xhat)), the means over all samples.

        Each rank's loss is the mean over its own share, so its sums count in proportion to that.
        """
        if self.rests:  # a frozen one behind what is trained
            return super().backward(dout, cache, grads)
        x, gamma, mean, inv_std, count = cache
        dx, dgamma, dbeta = _core.batchnorm_backward(
            self.layer, dout, x, self.ndim, mean, inv_std, gamma, None, False
        )
        sums = np.concatenate([[1], dbeta, dgamma], dtype=np.float64) * count
        self.comm.add(sums)
        C = len(gamma)
        sum_dout, sum_dout_xhat = sums[1 : C + 1] / sums[0] / count, sums[C + 1 :] / sums[0] / count
        slope, near = gamma * inv_std * inv_std * sum_dout_xhat, mean.astype(x.dtype)
        offset = gamma * inv_std * sum_dout + slope * (near - mean)
        per_channel = (1, C, 1, 1)[: self.ndim]
        # From the mean on: far from 0 the products would round off what is left of their difference.
        dx -= (x - near.reshape(per_channel)) * slope.astype(x.dtype).reshape(per_channel)
        dx -= offset.astype(x.dtype).reshape(per_channel)
        self.note((dgamma, dbeta), grads)
        return (dx if self.needs[0] else None,)

    def _combined(self, count, mean, var):
        """Mean and biased variance over all ranks of what each has `count` values of."""
        C = len(mean)
        rows = np.empty((self.comm.size, 1 + 2 * C))
        rows[self.comm.rank] = np.concatenate([[count], mean, var])
        self.comm.gather_rows(rows, [1] * self.comm.size)
        counts, means, variances = rows[:, :1], rows[:, 1 : C + 1], rows[:, C + 1 :]
        total = counts.sum()
        mean = (counts * means).sum(axis=0) / total
        return mean, (counts * (variances + (means - mean) ** 2)).sum(axis=0) / total

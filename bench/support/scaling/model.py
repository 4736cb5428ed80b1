"""A step's time against the number of ranks: compute, Allreduce, and the wait for the slowest.

Messages cost ``latency + bytes / bandwidth``. Of the usual algorithms for Allreduce (Thakur, Rabenseifner and
Gropp 2005) an MPI library takes what suits the size; the model takes the cheapest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """seconds = fixed + slope * amount."""

    fixed: float
    slope: float

    def __call__(self, amount):
        return self.fixed + self.slope * amount

    @classmethod
    def through(cls, points):
        """The line of the smallest relative errors through (amount, seconds) pairs; no part is negative."""
        rows = [(1 / t, x / t) for x, t in points]
        aa, ab, bb = (sum(r[i] * r[j] for r in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
        a1, b1 = sum(r[0] for r in rows), sum(r[1] for r in rows)
        determinant = aa * bb - ab * ab
        fixed, slope = (a1 * bb - b1 * ab) / determinant, (aa * b1 - ab * a1) / determinant
        if fixed < 0:
            return cls(0.0, b1 / bb)
        return cls(a1 / aa, 0.0) if slope < 0 else cls(fixed, slope)


@dataclass(frozen=True)
class Compute:
    """Seconds of a step of so many samples, interpolated between those that were measured."""

    samples: tuple[float, ...]
    seconds: tuple[float, ...]

    def __call__(self, samples):
        return float(np.interp(samples, self.samples, self.seconds))

    @classmethod
    def of(cls, rows):
        samples, seconds, _ = zip(*sorted(rows), strict=True)
        return cls(samples, seconds)


@dataclass(frozen=True)
class Fabric:
    """A network: seconds for an empty message between two processes, bytes per second of a link."""

    name: str
    latency: float
    bandwidth: float


# Typical figures of the trade, to MPI, not measured here.
FABRICS = (
    Fabric("1 Gb/s Ethernet", 50e-6, 0.117e9),
    Fabric("10 Gb/s Ethernet", 30e-6, 1.17e9),
    Fabric("25 Gb/s Ethernet", 20e-6, 2.9e9),
    Fabric("100 Gb/s RDMA", 2e-6, 12e9),
)


def allreduce(ranks, size, fabric):
    """Seconds to add up `size` bytes: recursive doubling, halving and doubling, or a ring, the cheapest."""
    if ranks == 1:
        return 0.0
    rounds, share = math.ceil(math.log2(ranks)), (ranks - 1) / ranks
    transfer = size / fabric.bandwidth
    return min(
        rounds * (fabric.latency + transfer),
        2 * rounds * fabric.latency + 2 * share * transfer,
        2 * (ranks - 1) * fabric.latency + 2 * share * transfer,
    )


def slowest(ranks, spread):
    """How much later than the mean the slowest of the ranks is, for normally distributed times."""
    return spread * math.sqrt(2 * math.log(ranks)) if ranks > 1 else 0.0


def step(ranks, samples, compute, size, spread, fabric):
    """Seconds of a step in which each rank computes so many `samples` and sends `size` bytes of gradients."""
    return compute(samples) + slowest(ranks, spread) + allreduce(ranks, size, fabric)

"""Where the time of a training step goes, by the operations of what trains the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cnnlib import _core
from cnnlib._system.text import shape_text
from cnnlib._typing import Array, ArrayLike, Gradients
from cnnlib.models.graph_model import GraphModel
from cnnlib.models.step_times import LayerTime

_WARM_UP = 2  # steps: the first compiles the network, the second finds its memory in the pool


@dataclass
class StepProfile:
    """Mean seconds of the `steps` that were measured with `images` each, and where they went.

    What neither `layers` nor loss nor update take is the rest: Python and regularisation. Memory is counted
    for a step: the buffers that kernels and large results took, those among them that were not there yet from
    earlier steps, and page faults (None where the system does not count them).
    """

    images: int
    steps: int
    total: float
    loss: float
    update: float
    buffers: float
    fresh_buffers: float
    page_faults: float | None
    layers: list[LayerTime] = field(default_factory=list)

    def rows(self) -> list[tuple[str, float, str, str]]:
        """What a step is made of: name, share of its time, milliseconds forward and (or '') backward."""
        rows = [
            (f"{layer.name} {shape_text(layer.shape)}", layer.forward, layer.backward)
            for layer in self.layers
        ]
        rest = self.total - sum(forward + backward for _, forward, backward in rows) - self.loss - self.update
        parts = [*rows, ("loss", self.loss, None), ("update", self.update, None), ("rest", rest, None)]
        made = []
        for name, forward, backward in parts:
            texts = f"{1e3 * forward:.3f}", "" if backward is None else f"{1e3 * backward:.3f}"
            made.append((name, (forward + (backward or 0.0)) / self.total, *texts))
        return made

    def table(self) -> str:
        """The profile as text: a line for each layer, then loss, update, rest and the counts of memory."""
        rows = self.rows()
        width = max(len(name) for name, *_ in rows)
        lines = [f"{'':{width}}  forward ms  backward ms   share"]
        lines += [f"{name:{width}}  {fore:>10}  {back:>11}  {share:6.1%}" for name, share, fore, back in rows]
        lines.append(f"buffers per step: {self.buffers:.0f}, from the system: {self.fresh_buffers:.1f}")
        if self.page_faults is not None:
            lines.append(f"page faults per step: {self.page_faults:.1f}")
        return "\n".join(lines)


def profile_step(
    model: GraphModel, X: Array, y: ArrayLike, update: Callable[[Gradients], Any], steps: int
) -> StepProfile:
    """Make two steps to warm up and `steps` that are measured.

    The model trains as it always does. X and y are the minibatch; ``update(gradients)`` ends each step.
    """

    def step() -> tuple[float, float, list[LayerTime]]:
        """Make a step; return the seconds of its loss and of its update, and its layers."""
        _, grads, times = model.timed_loss(X, y)
        started = time.perf_counter()
        update(grads)
        return times.loss, time.perf_counter() - started, times.layers

    for _ in range(_WARM_UP):
        step()
    counts, faults, started = _core.buffer_counts(), _page_faults(), time.perf_counter()
    losses, updates, layers = zip(*[step() for _ in range(steps)], strict=True)
    total = time.perf_counter() - started
    buffers, fresh = (now - before for now, before in zip(_core.buffer_counts(), counts, strict=True))
    now = _page_faults()
    means = [
        LayerTime(
            times[0].name,
            times[0].shape,
            sum(layer.forward for layer in times) / steps,
            sum(layer.backward for layer in times) / steps,
        )
        for times in zip(*layers, strict=True)
    ]
    return StepProfile(
        images=len(X),
        steps=steps,
        total=total / steps,
        loss=sum(losses) / steps,
        update=sum(updates) / steps,
        buffers=buffers / steps,
        fresh_buffers=fresh / steps,
        page_faults=None if faults is None or now is None else (now - faults) / steps,
        layers=means,
    )


def _page_faults() -> int | None:
    """Page faults so far, None where the system does not count them."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

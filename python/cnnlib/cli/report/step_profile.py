"""Where the time of a training step goes: layer by layer, in the order of the forward pass."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass, field

import numpy as np

from cnnlib import _core
from cnnlib._system.text import shape_text


@dataclass
class LayerTime:
    """One call of a layer in the forward pass, with the shape of its x."""

    name: str
    shape: tuple
    forward: float = 0.0
    backward: float = 0.0


@dataclass
class Profile:
    """Seconds that a step takes, and where: `rest` is Python and regularisation.

    Memory is counted for a step: the buffers that kernels and large results took, those among them that were
    not there yet from earlier steps, and page faults (None where the system does not count them).
    """

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


def profile_step(model, X, y, update, steps):
    """Make two steps to warm up and `steps` that are measured, in which the layers are called one by one.

    The model is a network of cnnlib.models, X and y are the minibatch; ``update(gradients)`` ends each step.
    The Profile has means over the steps.
    """
    with _timed(model._program) as layers:

        def step():
            """Make a step; return the seconds of its loss and of its update."""
            _, grads = model.loss(X, y)
            started = time.perf_counter()
            update(grads)
            return layers[-1].turned - layers[-1].ended, time.perf_counter() - started

        for _ in range(2):
            step()
        for layer in layers:
            layer.time.forward = layer.time.backward = 0.0
        memory, started = _memory_counts(), time.perf_counter()
        loss, updating = np.sum([step() for _ in range(steps)], axis=0).tolist()
        total = time.perf_counter() - started
        memory = [
            None if before is None else (after - before) / steps
            for before, after in zip(memory, _memory_counts(), strict=True)
        ]
    times = [layer.time for layer in layers]
    for layer in times:
        layer.forward /= steps
        layer.backward /= steps
    return Profile(*(total / steps, loss / steps, updating / steps, *memory, times))


def table(profile):
    """The profile as text: a line for each layer, then loss, update, rest and the counts of memory."""
    rows = profile.rows()
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'':{width}}  forward ms  backward ms   share"]
    lines += [f"{name:{width}}  {fore:>10}  {back:>11}  {share:6.1%}" for name, share, fore, back in rows]
    lines.append(f"buffers per step: {profile.buffers:.0f}, from the system: {profile.fresh_buffers:.1f}")
    if profile.page_faults is not None:
        lines.append(f"page faults per step: {profile.page_faults:.1f}")
    return "\n".join(lines)


class _TimedStep:
    """A step of a network with the time of its calls; `ended` forward, `turned` to the way back."""

    def __init__(self, step):
        self.step, self.time, self.ended, self.turned = step, LayerTime(step.node.layer, ()), 0.0, 0.0

    def __getattr__(self, name):
        value = getattr(self.step, name)
        # `scores` is the way forward of what is frozen.
        return functools.partial(self._timed, value) if name in ("forward", "scores") else value

    def _timed(self, call, run, *xs):
        started = time.perf_counter()
        result = call(run, *xs)
        self.ended = self.turned = time.perf_counter()
        self.time.forward += self.ended - started
        self.time.shape = np.shape(xs[0])
        return result

    def backward(self, dout, cache, grads):
        self.turned = time.perf_counter()
        result = self.step.backward(dout, cache, grads)
        self.time.backward += time.perf_counter() - self.turned
        return result


@contextlib.contextmanager
def _timed(program):
    """Let the steps of a program be timed; the core, which would run all of them in one call, does not."""
    steps, in_core = program.steps, program.in_core
    program.steps, program.in_core = list(map(_TimedStep, steps)), False
    try:
        yield program.steps
    finally:
        program.steps, program.in_core = steps, in_core


def _memory_counts():
    """Buffers acquired so far, those that came from the system, and page faults."""
    try:
        import resource
    except ImportError:  # Windows
        return *_core.buffer_counts(), None
    return *_core.buffer_counts(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt

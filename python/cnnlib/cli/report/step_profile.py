"""Where the time of a training step goes: layer by layer, in the order of the forward pass."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnlib import _core, layers

_LOSSES = ("softmax_loss", "svm_loss")


@dataclass
class LayerTime:
    """One call of a layer in the forward pass, with the shape of its x."""

    name: str
    shape: tuple
    forward: float = 0.0
    backward: float = 0.0


@dataclass
class Profile:
    """Seconds that a step takes, and where: `rest` is Python, sums of branches, regularisation.

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
            (f"{layer.name} {_text(layer.shape)}", layer.forward, layer.backward) for layer in self.layers
        ]
        rest = self.total - sum(forward + backward for _, forward, backward in rows) - self.loss - self.update
        parts = [*rows, ("loss", self.loss, None), ("update", self.update, None), ("rest", rest, None)]
        return [
            (
                name,
                (forward + (backward or 0.0)) / self.total,
                f"{1e3 * forward:.3f}",
                "" if backward is None else f"{1e3 * backward:.3f}",
            )
            for name, forward, backward in parts
        ]


def profile_step(model, X, y, update, steps):
    """
    Make two steps to warm up and `steps` that are measured, in which the layers are called one by one.

    Parameters
    ----------
    model : object with ``loss(X, y)``
        Anything that computes with the functions of cnnlib.layers.
    X, y : arrays
        The minibatch.
    update : callable
        Called with the gradients.
    steps : int

    Returns
    -------
    Profile
        Means over the steps.
    """
    calls: dict[Any, Any] = {}
    caches: list[Any] = []

    def step():
        """Make a step; return the seconds of its update."""
        caches.clear()
        _, grads = model.loss(X, y)
        started = time.perf_counter()
        update(grads)
        return time.perf_counter() - started

    with _layer_by_layer(model), _watched(lambda *event: _note(calls, caches, *event)):
        for _ in range(2):
            step()
        calls.clear()
        memory, started = _memory_counts(), time.perf_counter()
        updating = sum(step() for _ in range(steps))
        total = time.perf_counter() - started
        memory = [
            None if before is None else (after - before) / steps
            for before, after in zip(memory, _memory_counts(), strict=True)
        ]
    for call in calls.values():
        call.forward /= steps
        call.backward /= steps
    loss = sum(call.forward for call in calls.values() if call.name in _LOSSES)
    shown = [call for call in calls.values() if call.name not in _LOSSES]
    return Profile(*(total / steps, loss, updating / steps, *memory, shown))


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


def _note(calls, caches, function, x, arguments, result, seconds):
    """Add what a call took to its layer's: a backward call is known by the cache that it is given.

    `caches` are those of this step's forward calls, None once they have served.
    """
    if function.endswith("_backward"):
        k = next((k for k, cache in enumerate(caches) if cache is arguments[0]), None)
        if k is not None:
            calls[k].backward += seconds
            caches[k] = None
        return
    k = len(caches)
    caches.append(result[1] if function.endswith("_forward") else None)
    name = function.removesuffix("_forward")
    calls.setdefault(k, LayerTime(name, np.shape(x))).forward += seconds


@contextlib.contextmanager
def _layer_by_layer(model):
    """Let a network call its layers one by one, also where the core runs the whole step."""
    program: Any = getattr(model, "_program", None)
    whole = getattr(program, "_graph", None)
    if whole is not None:
        program._graph = None
    try:
        yield
    finally:
        if whole is not None:
            program._graph = whole


@contextlib.contextmanager
def _watched(note):
    """Replace the public layer functions, wherever cnnlib's modules hold them, by ones that report calls.

    `note(name, first argument, the others, result, seconds)`; calls inside of calls are not reported.
    """
    inside = False

    def watched(name, function):
        @functools.wraps(function)
        def wrapper(x, *arguments, **options):
            nonlocal inside
            if inside:
                return function(x, *arguments, **options)
            inside = True
            try:
                started = time.perf_counter()
                result = function(x, *arguments, **options)
                note(name, x, arguments, result, time.perf_counter() - started)
            finally:
                inside = False
            return result

        return wrapper

    wrappers = {getattr(layers, name): watched(name, getattr(layers, name)) for name in layers.__all__}
    replaced = []
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "cnnlib"]:
        for name, value in list(vars(module).items()):
            if callable(value) and not isinstance(value, type) and value in wrappers:
                replaced.append((module, name, value))
                setattr(module, name, wrappers[value])
    try:
        yield
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)


def _memory_counts():
    """Buffers acquired so far, those that came from the system, and page faults."""
    try:
        import resource
    except ImportError:  # Windows
        return *_core.buffer_counts(), None
    return *_core.buffer_counts(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _text(shape):
    return "x".join(map(str, shape))

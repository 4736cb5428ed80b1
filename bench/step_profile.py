"""Where the time of a training step goes: by layer and shape in cnnlib, by operator and shape in PyTorch."""

from __future__ import annotations

import functools
import sys
import time
from collections import defaultdict

import numpy as np

_STEPS = 5
_OPERATORS = 25


def print_own(step):
    """Print the time in each public layer function, for each shape of its first array; and the rest.

    The functions are replaced by timed ones wherever cnnlib's modules hold them, for as long as this takes.
    """
    from cnnlib import layers

    seconds, calls = defaultdict(float), defaultdict(int)

    def timed(name, function):
        @functools.wraps(function)
        def wrapper(x, *rest, **options):
            started = time.perf_counter()
            result = function(x, *rest, **options)
            key = name, np.shape(x)
            seconds[key] += time.perf_counter() - started
            calls[key] += 1
            return result

        return wrapper

    wrappers = {getattr(layers, name): timed(name, getattr(layers, name)) for name in layers.__all__}
    replaced = []
    for module in [m for name, m in sys.modules.items() if name.split(".")[0] == "cnnlib"]:
        for name, value in list(vars(module).items()):
            if callable(value) and not isinstance(value, type) and value in wrappers:
                replaced.append((module, name, value))
                setattr(module, name, wrappers[value])
    try:
        step()
        seconds.clear()
        calls.clear()
        update = 0.0
        started = time.perf_counter()
        for _ in range(_STEPS):
            _, grads = step.model.loss(step.X, step.y)
            before = time.perf_counter()
            step.update(grads)
            update += time.perf_counter() - before
        total = time.perf_counter() - started
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)
    rows = [(f"{name} {_text(shape)}", spent, calls[name, shape]) for (name, shape), spent in seconds.items()]
    rows.append((f"update of {len(step.configs)} parameters", update, _STEPS))
    rows.append(
        ("the rest: Python, sums of branches, regularisation", total - sum(r[1] for r in rows), _STEPS)
    )
    _print("cnnlib, by layer (shape of its first array: x, or dout)", rows, total)


def print_torch(torch, step):
    """Print PyTorch's profile: the operators that take most of the time, by their inputs' shapes."""
    step()
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], record_shapes=True) as profile:
        started = time.perf_counter()
        for _ in range(_STEPS):
            step()
        total = time.perf_counter() - started
    events = sorted(
        profile.key_averages(group_by_input_shape=True), key=lambda e: e.self_cpu_time_total, reverse=True
    )
    rows = []
    for event in events[:_OPERATORS]:
        shapes = [_text(shape) for shape in event.input_shapes[:2] if shape]
        rows.append((f"{event.key} {' '.join(shapes)}", event.self_cpu_time_total / 1e6, event.count))
    rows.append(("the rest", max(0.0, total - sum(row[1] for row in rows)), _STEPS))
    _print("PyTorch, by operator (shapes of its inputs), under its profiler", rows, total)


def _print(title, rows, total):
    print(f"\n  {title}: {1e3 * total / _STEPS:.3g} ms a step")
    for name, spent, count in rows:
        print(f"  {1e3 * spent / _STEPS:9.3f} ms {spent / total:6.1%}  {count // _STEPS:3} x  {name}")
    print(flush=True)


def _text(shape):
    return "x".join(map(str, shape))

"""Where the time of a training step goes: by layer and shape in cnnlib, by operator and shape in PyTorch."""

from __future__ import annotations

import textwrap
import time

_STEPS = 5
_OPERATORS = 25


def print_own(step):
    """Print the time of each layer in the order of the forward pass, of loss and update, and the rest."""
    from cnnlib.solver.step_profile import profile_step

    profile = profile_step(step.model, step.X, step.y, step.update, _STEPS)
    print(f"\n  cnnlib, by layer and shape of x: {1e3 * profile.total:.3g} ms a step")
    print(textwrap.indent(profile.table(), "  "))


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

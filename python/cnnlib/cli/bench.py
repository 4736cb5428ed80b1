"""``cnnlib bench``: the kernels beside the loop versions; with --profile, a training step layer by layer."""

import functools
import importlib.util
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import cnnlib
from cnnlib import layers, naive, optim
from cnnlib._system.config import current_config
from cnnlib._system.text import shape_text
from cnnlib.cli.options.arguments import add, add_setting, add_threads
from cnnlib.gradient_check import rel_error
from cnnlib.models import ConvNet
from cnnlib.runs.networks import SPECS
from cnnlib.solver.step_profile import profile_step
from cnnlib.solver.update import Updater

_IMAGES, _SECONDS = 100, 0.5  # in each cell; to spend on each fast version
_QUICK_IMAGES, _QUICK_SECONDS = 2, 0.01
_STEPS, _QUICK_STEPS = 50, 2  # of a profile
_NETWORK, _BATCH_SIZE = "vgg-small", 64


def add_to(commands):
    bench = commands.add_parser(
        "bench",
        help="speed of the kernels",
        description="Time the compiled kernels, the loop versions and, if it is installed, PyTorch on the "
        "speed cells of the course notebook. The loops take half a minute. With --profile instead: where a "
        "training step of a network goes, on random images.",
    )
    add(bench, "--json FILE", "write the figures to FILE as well")
    add(bench, "--dtype float32|float64", "default: float64, with --profile float32")
    add(bench, "--quick", "2 images instead of 100, 2 steps: a try, not a measurement")
    add(bench, "--profile", "time, share and page faults of a step's layers, loss and update")
    add(bench, "--network", "with --profile; default: vgg-small", choices=SPECS)
    add_setting(bench, "batch_size", "count", "with --profile: images; default: 64")
    add_threads(bench)


def run(options):
    # Now, not after the timings.
    if options.json is not None and not Path(options.json).resolve().parent.is_dir():
        raise FileNotFoundError(f"--json {options.json}: there is no such folder")
    result = (_profiled if options.profile else _compared)(options)
    if options.json is not None:
        known = current_config()
        about = {name: known[name] for name in ("cnnlib", "instruction set", "threads")}
        Path(options.json).write_text(json.dumps({**about, **result}, indent=2) + "\n", encoding="utf-8")
    return 0


def _compared(options):
    """Print the speed cells; returns what --json holds of them."""
    for name in ("network", "batch_size"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} goes with --profile")
    dtype = options.dtype or "float64"
    images, seconds = (_QUICK_IMAGES, _QUICK_SECONDS) if options.quick else (_IMAGES, _SECONDS)
    rows = _own_rows(images, dtype, seconds)
    if importlib.util.find_spec("torch") is not None:
        _add_torch(rows, images, dtype, seconds)
    _print_table(rows)
    return {"dtype": dtype, "images": images, "rows": rows}


def _profiled(options):
    """Print where a training step of a network on random images goes; returns what --json holds of it."""
    network, images = options.network or _NETWORK, options.batch_size or _BATCH_SIZE
    dtype = options.dtype or "float32"
    model = ConvNet(network, dtype=dtype, seed=0)
    random = np.random.default_rng(0)
    X = random.standard_normal((images, *model.input_dim)).astype(dtype)
    y = random.integers(model.num_classes or 1, size=int(images))
    updater = Updater(model.params, update_rule=optim.adam, optim_config={})
    configs = updater.first_configs(model.params)
    steps = _QUICK_STEPS if options.quick else _STEPS
    profile = profile_step(model, X, y, lambda grads: updater.step(model.params, grads, configs, 0, 1), steps)
    print(
        f"{network}, {images} images of {shape_text(model.input_dim)}, {dtype}, adam, "
        f"{cnnlib.get_num_threads()} threads: {1e3 * profile.total:.3g} ms a step (mean of {steps})"
    )
    print(profile.table())
    return {"dtype": dtype, "images": images, "network": network, "profile": asdict(profile)}


def _cells(images, dtype):
    """The cells: a layer, the arrays that it takes, its parameters, the gradient behind it."""
    random = np.random.RandomState(0)

    def arrays(*shapes):
        return [random.randn(*shape).astype(dtype) for shape in shapes]

    x, w, b, dout = arrays((images, 3, 31, 31), (25, 3, 3, 3), (25,), (images, 25, 16, 16))
    yield "conv", (x, w, b), {"stride": 2, "pad": 1}, dout
    random.seed(0)
    x, dout = arrays((images, 3, 32, 32), (images, 3, 16, 16))
    yield "max_pool", (x,), {"size": 2}, dout


def _own_rows(images, dtype, budget):
    rows = []
    for layer, arrays, param, dout in _cells(images, dtype):
        forward = *arrays, param
        backward = dout, getattr(layers, f"{layer}_forward")(*forward)[1]
        for name, arguments in ((f"{layer}_forward", forward), (f"{layer}_backward", backward)):
            slow, fast = getattr(naive, f"{name}_naive"), getattr(layers, name)
            started = time.perf_counter()
            want = slow(*arguments)
            naive_seconds = time.perf_counter() - started
            got = fast(*arguments)
            names = ("out",) if arguments is forward else ("dx", "dw", "db")
            want, got = (part if isinstance(part, tuple) else (part,) for part in (want, got))
            seconds = _shortest(lambda fast=fast, arguments=arguments: fast(*arguments), budget)
            difference = {r: float(rel_error(g, n)) for r, g, n in zip(names, got, want)}
            row = {"name": name, "naive_s": naive_seconds, "fast_s": seconds}
            rows.append({**row, "speed_up": naive_seconds / seconds, "difference": difference})
    return rows


def _add_torch(rows, images, dtype, budget):
    """Time the same cells in PyTorch, on the same arrays and as many threads."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(cnnlib.get_num_threads())
    calls: dict[str, Any] = {
        "conv": lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
        "max_pool": lambda x: F.max_pool2d(x, 2, stride=2),
    }
    seconds = []
    for layer, arrays, _, dout in _cells(images, dtype):
        call, leaves, grad = calls[layer], list(map(torch.from_numpy, arrays)), torch.from_numpy(dout)
        with torch.no_grad():
            seconds.append(_shortest(lambda call=call, leaves=leaves: call(*leaves), budget))
        for leaf in leaves:
            leaf.requires_grad_(True)
        arguments = call(*leaves), leaves, grad
        back = functools.partial(torch.autograd.grad, *arguments, retain_graph=True)
        seconds.append(_shortest(back, budget))
    for row, value in zip(rows, seconds, strict=True):
        row["torch_s"] = value


def _shortest(call, budget):
    """The shortest of the runs in `budget` seconds (three at least): the work where nothing disturbs it."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < budget:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def _print_table(rows):
    torch = "torch_s" in rows[0]
    header = f"{'':18}{'naive s':>10}{'fast s':>11}{'speed-up':>10}"
    print(header + (f"{'torch s':>11}{'torch/fast':>11}" if torch else "") + "  difference")
    for row in rows:
        line = f"{row['name']:18}{row['naive_s']:10.4f}{row['fast_s']:11.6f}{row['speed_up']:9.0f}x"
        if torch:
            line += f"{row['torch_s']:11.6f}{row['torch_s'] / row['fast_s']:10.2f}x"
        difference = row["difference"]
        line += "  " + ", ".join(
            f"{value:.1e}" if len(difference) == 1 else f"{name} {value:.1e}"
            for name, value in difference.items()
        )
        print(line)

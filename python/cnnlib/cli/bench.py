"""``cnnlib bench``: the kernels beside the loop versions; with --profile, a training step layer by layer."""

import importlib.util
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import cnnlib
from cnnlib import layers, naive, optim
from cnnlib.cli.options.arguments import add_threads, positive_int
from cnnlib.cli.options.settings import SPECS
from cnnlib.cli.report.step_profile import profile_step, table
from cnnlib.convnet import ConvNet
from cnnlib.gradient_check import rel_error
from cnnlib.solver.update import Updater

_IMAGES, _SECONDS = 100, 0.5  # in each cell; to spend on each fast version
_QUICK_IMAGES, _QUICK_SECONDS = 2, 0.01
_STEPS, _QUICK_STEPS = 50, 2  # of a profile
_NETWORK, _BATCH_SIZE = "vgg-small", 64


def add_to(commands):
    """Add the command and its options."""
    bench = commands.add_parser(
        "bench",
        help="speed of the kernels",
        description="Time the compiled kernels, the loop versions and, if it is installed, PyTorch on the "
        "speed cells of the course notebook. The loops take half a minute. With --profile instead: where a "
        "training step of a network goes, on random images.",
    )
    bench.set_defaults(execute=run)
    bench.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    bench.add_argument(
        "--dtype", choices=("float32", "float64"), help="default: float64, with --profile float32"
    )
    bench.add_argument(
        "--quick", action="store_true", help="2 images instead of 100, 2 steps: a try, not a measurement"
    )
    bench.add_argument(
        "--profile",
        action="store_true",
        help="time, share and page faults of a step's layers, loss and update",
    )
    bench.add_argument("--network", choices=SPECS, help="with --profile; default: vgg-small")
    bench.add_argument(
        "--batch-size", type=positive_int, metavar="N", help="with --profile: images; default: 64"
    )
    add_threads(bench)


def run(options):
    """Run the subcommand; returns the exit status."""
    if options.threads is not None:
        cnnlib.set_num_threads(options.threads)
    if options.json is not None and not Path(options.json).resolve().parent.is_dir():
        raise FileNotFoundError(
            f"--json {options.json}: there is no such folder"
        )  # now, not after the timings
    result = (_profiled if options.profile else _compared)(options)
    if options.json is not None:
        result = {
            "cnnlib": cnnlib.__version__,
            "instruction set": cnnlib._core.active_isa(),
            "threads": cnnlib.get_num_threads(),
            **result,
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
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
    steps = _QUICK_STEPS if options.quick else _STEPS
    profile = profile_step(model, X, y, lambda grads: updater.step(model.params, grads, 0, 1), steps)
    print(
        f"{network}, {images} images of {'x'.join(map(str, model.input_dim))}, {dtype}, adam, "
        f"{cnnlib.get_num_threads()} threads: {1e3 * profile.total:.3g} ms a step (mean of {steps})"
    )
    print(table(profile))
    return {"dtype": dtype, "images": images, "network": network, "profile": asdict(profile)}


def _arrays(dtype, *shapes):
    random = np.random.RandomState(0)
    return [random.randn(*shape).astype(dtype) for shape in shapes]


def _conv_arrays(images, dtype):
    """x, w, b and dout."""
    return _arrays(dtype, (images, 3, 31, 31), (25, 3, 3, 3), (25,), (images, 25, 16, 16))


def _pool_arrays(images, dtype):
    """x and dout."""
    return _arrays(dtype, (images, 3, 32, 32), (images, 3, 16, 16))


def _own_rows(images, dtype, budget):
    *conv, dout = _conv_arrays(images, dtype)
    x, doutp = _pool_arrays(images, dtype)
    conv.append({"stride": 2, "pad": 1})
    pool: Any = x, {"pool_height": 2, "pool_width": 2, "stride": 2}
    rows = []
    for name, results, arguments in (
        ("conv_forward", ("out",), conv),
        ("conv_backward", ("dx", "dw", "db"), (dout, layers.conv_forward(*conv)[1])),
        ("max_pool_forward", ("out",), pool),
        ("max_pool_backward", ("dx",), (doutp, layers.max_pool_forward(*pool)[1])),
    ):
        slow, fast = getattr(naive, f"{name}_naive"), getattr(layers, name)
        started = time.perf_counter()
        want = slow(*arguments)
        naive_seconds = time.perf_counter() - started
        got = fast(*arguments)
        if name.endswith("_forward"):
            want, got = want[:1], got[:1]
        elif len(results) == 1:
            want, got = (want,), (got,)
        seconds = _shortest(lambda fast=fast, arguments=arguments: fast(*arguments), budget)
        difference = {r: float(rel_error(g, n)) for r, g, n in zip(results, got, want, strict=True)}
        row = {"name": name, "naive_s": naive_seconds, "fast_s": seconds}
        rows.append({**row, "speed_up": naive_seconds / seconds, "difference": difference})
    return rows


def _add_torch(rows, images, dtype, budget):
    """Time the same cells in PyTorch, on the same arrays and as many threads."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(cnnlib.get_num_threads())
    arrays = (*_conv_arrays(images, dtype), *_pool_arrays(images, dtype))
    x, w, b, dout, xp, doutp = map(torch.from_numpy, arrays)

    def conv():
        return F.conv2d(x, w, b, stride=2, padding=1)

    def pool():
        return F.max_pool2d(xp, 2, stride=2)

    with torch.no_grad():
        forward = _shortest(conv, budget), _shortest(pool, budget)
    for leaf in (x, w, b, xp):
        leaf.requires_grad_(True)
    y, yp = conv(), pool()
    backward = (
        _shortest(lambda: torch.autograd.grad(y, (x, w, b), dout, retain_graph=True), budget),
        _shortest(lambda: torch.autograd.grad(yp, xp, doutp, retain_graph=True), budget),
    )
    for row, seconds in zip(rows, (forward[0], backward[0], forward[1], backward[1]), strict=True):
        row["torch_s"] = seconds


def _shortest(call, budget):
    """The shortest of the runs in `budget` seconds (three at least): the work where nothing disturbs it."""
    best, total, runs = float("inf"), 0.0, 0
    while runs < 3 or total < budget:
        started = time.perf_counter()
        call()
        seconds = time.perf_counter() - started
        best, total, runs = min(best, seconds), total + seconds, runs + 1
    return best


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

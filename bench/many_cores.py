"""Predict what 1 to 64 cores would do, on a machine of any number.

    make many-cores MANY_CORES_ARGS="--isa avx2 --groups conv --batches 1 8"

Each loop's tasks are timed by their thread's own clock, so that a busy machine spoils little: the caller runs
its own share of T threads' tasks, one other thread the rest. They are then scheduled over T threads as the
loops do it; what lies outside of loops stays as it is. Shared caches are not modelled; `--bandwidth` sets a
floor under what memory has to move.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from functools import partial

import cnnlib
import numpy as np
from cnnlib import _core
from support import shapes, timing, virtual_cores
from support.inference import networks
from support.training import own

THREADS = (1, 2, 4, 8, 12, 16, 24, 32, 64)
IMAGES = ((32, 64, 112, 112), (128, 64, 32, 32), (8, 3, 224, 224), (1, 64, 112, 112), (1, 1, 2048, 2048))
GROUPS = ("conv", "pool", "norm", "activation", "prepared", "step")


def main():
    options = _parser().parse_args()
    if not virtual_cores.available():
        sys.exit("many_cores: this build of cnnlib records no loops; `make many-cores` builds one that does")
    if options.isa:
        _core.use_isa(options.isa)
    _core.notice_missing_cores(False)
    costs = virtual_cores.Costs(team=options.team * 1e-6, standing=options.team * 0.5e-6)
    threads = sorted({1, *options.threads})
    print(f"{_core.active_isa()}, {options.dtype}, {options.team} us a loop")
    measured = "  measured at 2" if options.measure else ""
    columns = "".join(f"{t:>7}" for t in threads[1:])
    print(f"{'us on one thread; times as fast on T =':44}{1:>9}{columns}{measured}   bound at the last T")
    failed = False
    for group in options.groups:
        rows = []
        for name, call, bytes_moved in _works(group, options):
            if options.only and not re.search(options.only, name):
                continue
            seconds, twice, where = _row(call, threads, costs, options, bytes_moved)
            rows.append(seconds)
            measured = f"{twice:15.2f}" if options.measure else ""
            columns = "".join(f"{x:7.2f}" for x in seconds[0] / seconds[1:])
            print(f"{name:44}{1e6 * seconds[0]:9.1f}{columns}{measured}   {where}", flush=True)
        if rows:
            failed |= _summary(group, np.array(rows), threads, options)
    sys.exit(int(failed))


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS, metavar="T")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32], metavar="N")
    parser.add_argument("--layers", nargs="+", choices=shapes.GROUPS, help="groups of convolutions")
    parser.add_argument("--only", metavar="RE", help="searched in a row's name")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--isa")
    parser.add_argument(
        "--team", type=float, default=0.5, metavar="US", help="a loop costs this times log2(T)"
    )
    parser.add_argument("--bandwidth", type=float, metavar="GB/S", help="of the memory that all cores share")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help="also time one and two threads")
    parser.add_argument(
        "--floor", type=float, metavar="E", help="fail where a group's efficiency at 16 threads is less"
    )
    return parser


def _row(call, threads, costs, options, bytes_moved):
    """Predicted seconds, how many times as fast two threads are in fact, and what bounds the last.

    Each round takes every number of threads, so that a slow minute of the machine falls on all of them.
    """
    recordings, measured = {}, {1: float("inf"), 2: float("inf")}
    for _ in range(options.repeats):
        for t in threads:
            call()
            recording = virtual_cores.record(call, t)
            recordings[t] = recordings[t].least(recording) if t in recordings else recording
        for t in measured if options.measure else ():
            measured[t] = min(measured[t], _seconds(call, t))
    times = []
    for t in threads:
        seconds, spans = virtual_cores.predicted(recordings[t], costs)
        if options.bandwidth:
            seconds = max(seconds, bytes_moved / options.bandwidth / 1e9)
        times.append(seconds)
    name, lost = virtual_cores.bound(recordings[t], spans, t)
    return np.array(times), measured[1] / measured[2], f"{name} {1e6 * lost:.0f} of {1e6 * times[-1]:.0f} us"


def _seconds(call, threads):
    """Of a call on so many threads, after one that warms caches."""
    cnnlib.set_num_threads(threads)
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _summary(group, rows, threads, options):
    """Print the efficiency of rows of seconds: geometric mean, least, and of the sum of their times; returns
    whether the mean is below the floor.
    """
    efficiency = rows[:, :1] / rows / threads
    means = np.exp(np.log(efficiency).mean(0))
    whole = rows[:, 0].sum() / rows.sum(0) / threads
    for what, values in (("mean", means), ("least", efficiency.min(0)), ("of all time", whole)):
        print(f"{f'{group}: efficiency, {what}':53}" + "".join(f"{x:7.2f}" for x in values[1:]))
    rises = (rows[:, 1:] > 1.05 * rows[:, :-1]).any(1).sum()
    print(f"{group}: time rises by more than 5 % from one T to the next in {rises} of {len(rows)} rows\n")
    at = threads.index(16) if 16 in threads else -1
    return options.floor is not None and means[at] < options.floor


def _works(group, options):
    """Yield (name, call without arguments, bytes moved at least)."""
    yield from globals()[f"_{group}"](options)


def _conv(options):
    cases = shapes.select(options.batches, options.layers)
    for case, dtype, (x, w, b, dout) in shapes.with_arrays(cases, [options.dtype]):
        if case.group == "tiny":
            continue
        cache, name = (x, w, b, case.conv_param), f"{case.name} N={x.shape[0]}"
        moved = {way: np.dtype(dtype).itemsize * case.traffic(way) for way in ("forward", "backward")}
        yield f"{name} fwd", partial(cnnlib.conv_forward, *cache), moved["forward"]
        for needs in [n for n in case.needs if n != "db"]:
            yield (
                f"{name} {needs}",
                partial(cnnlib.conv_backward, dout, cache, needs=(needs,)),
                moved["backward"] / 2,
            )


def _images(options):
    """Arrays of images, and a few of their sizes as text."""
    normals = timing.Normals()
    for shape in IMAGES:
        (x,) = normals(options.dtype, shape)
        yield "x".join(map(str, shape)), x


def _both_ways(name, layer, *arguments):
    """A layer, and its gradient with its own output as dout."""
    forward, backward = (getattr(cnnlib.layers, f"{layer}_{way}") for way in ("forward", "backward"))
    out, cache = forward(*arguments)
    moved = arguments[0].nbytes + out.nbytes
    yield f"{name} fwd", partial(forward, *arguments), moved
    yield f"{name} bwd", partial(backward, out, cache), moved + arguments[0].nbytes


def _pool(options):
    windows = {
        "max 2x2": ("max_pool", {"size": 2}),
        "max 3x3 s2": ("max_pool", {"size": 3, "stride": 2, "pad": 1}),
        "avg 3x3 s1": ("avg_pool", {"size": 3, "stride": 1, "pad": 1}),
    }
    for size, x in _images(options):
        for name, (layer, param) in windows.items():
            yield from _both_ways(f"{name} {size}", layer, x, param)
        if x.size < 5e6:
            yield from _both_ways(f"upsample {size}", "upsample", x, 2)


def _norm(options):
    for size, x in _images(options):
        affine = np.ones(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
        yield from _both_ways(f"batch norm {size}", "spatial_batchnorm", x, *affine, {"mode": "train"})
        yield from _both_ways(f"group norm {size}", "spatial_groupnorm", x, *affine, 1, {})


def _activation(options):
    for size, x in _images(options):
        for name in ("relu", "gelu"):
            yield from _both_ways(f"{name} {size}", name, x)


def _prepared(options):
    for name in ("resnet18", "resnet50", "mobilenet-v2"):
        net = networks.build(name)
        predictor = cnnlib.prepare(net)
        for N in options.batches:
            x = np.random.default_rng(0).standard_normal((N, *net.input_dim), dtype=np.float32)
            yield f"{name} N={N}", partial(predictor, x), x.nbytes


def _step(options):
    dtype = options.dtype
    for name in ("vgg-small", "resnet20", "mobile-small"):
        X, y = own.minibatch(dtype, 128)
        yield f"{name} N=128", own.OwnStep(own.model(name, dtype), X, y, "sgd_momentum"), X.nbytes


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

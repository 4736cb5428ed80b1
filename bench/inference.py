"""Inference, from NumPy arrays to NumPy arrays: cnnlib's predictor beside the engines that CPU users run.

Each engine gets the same network with the same weights, as its own tools want it, float32 and the same number
of threads; its output is compared before it is timed. Engines take turns, with pauses between them: a
runtime's idle threads spin for a while. README.md in this folder says more.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import cnnlib
import numpy as np
from cnnlib import onnx as exchange
from cnnlib.benchmarking import engines, growth
from support import peaks, processor, runner, timing
from support.inference import eight_bits, networks

_TOLERANCE = 2e-4  # of the largest score: engines differ in their order of sums and their Winograd tiles
_TOLERANCE_INT8 = 0.5  # from float32: the weights are random, and each engine chooses its own ranges


def main():
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--network", nargs="+", choices=networks.NETWORKS, default=list(networks.NETWORKS), metavar="NAME")
    add("--batch", nargs="+", type=int, metavar="N", help="only these batches")
    add("--engines", nargs="*", choices=engines.CALLS, default=engines.installed(), metavar="NAME")
    add("--threads", type=int, default=2)
    add("--precision", choices=("float32", "int8"), default="float32")
    add("--seconds", type=float, default=2.0, help="time of the calls of each engine and row")
    add("--profile", action="store_true", help="print where the time of each network goes, layer by layer")
    add("--no-memory", action="store_true", help="measure no memory, which takes longer than the rest")
    add("--markdown", metavar="FILE", help="write the tables here")
    add("--memory", nargs=3, help=argparse.SUPPRESS, metavar=("ENGINE", "NETWORK", "N"))
    options = parser.parse_args()
    if options.memory:
        engine, name, N = options.memory
        return _growth(engine, name, int(N), options.threads)
    runner.warn_of_load()
    cnnlib.set_num_threads(options.threads)
    lines = _header(options)
    rows = []
    for name in options.network:
        net = networks.build(name)
        lines += _profile(name, net, options) if options.profile else []
        batches = options.batch or networks.NETWORKS[name][3]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"{name}.onnx")
            exchange.save(net, path)
            if options.precision == "int8":
                path = _quantized(name, path)
            for N in batches:
                rows.append(_row(name, net, path, N, options))
                print(_line(rows[-1]), flush=True)
    lines += _tables(rows, options)
    if options.markdown:
        Path(options.markdown).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _prepared(net, size, options):
    if options.precision == "float32":
        return cnnlib.prepare(net)
    return cnnlib.prepare(net, precision="int8", calibration=eight_bits.calibration(size))


def _quantized(name, path):
    target = f"{path}.int8.onnx"
    eight_bits.quantize_onnx(path, target, eight_bits.calibration(networks.NETWORKS[name][1]))
    return target


def _row(name, net, path, N, options):
    size = networks.NETWORKS[name][1]
    x = np.random.default_rng(1).standard_normal((N, 3, size, size)).astype(np.float32)
    started = time.perf_counter()
    predictor = _prepared(net, size, options)
    predictor(x[:1])
    prepared = time.perf_counter() - started
    calls, wrong = {"cnnlib": lambda: predictor(x)}, []
    want = cnnlib.prepare(net)(x) if options.precision == "int8" else predictor(x)
    errors = {"model": timing.difference((net(x),), (want,))}
    if options.precision == "int8":
        floats = cnnlib.prepare(net)
        calls["cnnlib float32"] = lambda: floats(x)
        errors["cnnlib"] = timing.difference((predictor(x),), (want,))
    for engine in options.engines:
        call = engines.CALLS[engine](net, path, x, options.threads)
        errors[engine] = timing.difference((np.asarray(call()).reshape(want.shape),), (want,))
        if errors[engine] > (_TOLERANCE if options.precision == "float32" else _TOLERANCE_INT8):
            wrong.append(engine)
        else:
            calls[engine] = call
    times = timing.take_turns(calls, options.seconds * len(calls))
    measured = () if options.no_memory or options.precision == "int8" else calls
    memory = {engine: _memory(engine, name, N, options.threads) for engine in measured}
    return {
        "name": name,
        "N": N,
        "times": times,
        "errors": errors,
        "wrong": wrong,
        "prepared": prepared,
        "memory": memory,
    }


def _memory(engine, name, N, threads):
    """MB that making the engine and three calls add at its peak, in a process of its own."""
    command = [sys.executable, __file__, "--memory", engine, name, str(N), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else float("nan")


def _growth(engine, name, N, threads):
    cnnlib.set_num_threads(threads)
    size = networks.NETWORKS[name][1]
    net = networks.build(name)
    x = np.zeros((N, 3, size, size), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.onnx")
        exchange.save(net, path)
        if engine != "cnnlib":
            importlib.import_module(engine.removesuffix("-compile"))
        cnnlib._core.release_buffers()
        before = growth.resident_from_here()
        call = cnnlib.prepare(net) if engine == "cnnlib" else engines.CALLS[engine](net, path, x, threads)
        for _ in range(3):
            call(x)
        print((growth.peak_resident() - before) / 2**20)
    return 0


def _line(row):
    times = row["times"]
    own = times["cnnlib"].minimum
    peers = {name: each.minimum for name, each in times.items() if not name.startswith("cnnlib")}
    text = f"{row['name']:13} N={row['N']:<4} cnnlib {own * 1e3:8.2f} ms"
    ours = {name: each.minimum for name, each in times.items() if name == "cnnlib float32"}
    text += "".join(
        f"  {name} {value * 1e3:.2f} ({value / own:.2f})" for name, value in {**ours, **peers}.items()
    )
    if peers:
        text += f"  | fastest {min(peers, key=peers.get)} {min(peers.values()) / own:.2f}"
    return (
        text
        + f"  error {max(row['errors'].values()):.1e}"
        + (f" WRONG {row['wrong']}" if row["wrong"] else "")
    )


def _header(options):
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", *_packages(options)))
    date = datetime.date.today().isoformat()
    isa = cnnlib._core.active_isa()
    return [
        "# Inference",
        "",
        f"{date}, {processor.name()} ({isa}), {options.threads} threads,",
        f"cnnlib {runner.commit()}; {versions}.",
        f"`python {' '.join(sys.argv)}`",
        "",
    ]


def _packages(options):
    return sorted({engine.removesuffix("-compile") for engine in options.engines})


def _profile(name, net, options):
    """The steps of one image, with their share of the time and of what the processor can do."""
    size = networks.NETWORKS[name][1]
    x = np.random.default_rng(1).standard_normal((1, 3, size, size)).astype(np.float32)
    steps = cnnlib.prepare(net).profile(x, 30)
    total = sum(seconds for _, seconds, _ in steps)
    peak, source = peaks.multiply_add_peak("float32", options.threads, cnnlib._core.active_isa())
    lines = [f"## {name}, one image", "", f"Peak: {peak:.0f} GF/s, {source}.", ""]
    lines += ["| step | us | share | GF/s | of the peak, or GB/s |", "| --- | ---: | ---: | ---: | ---: |"]
    for label, seconds, flops in steps:
        rate, share = flops / seconds / 1e9, seconds / total
        of_peak = f"{rate / peak:.0%}" if "conv" in label else ""
        if label.startswith("affine"):  # reads every weight once
            of_peak = f"{flops / 2 * 4 / seconds / 1e9:.0f} GB/s"
        lines.append(f"| {label} | {seconds * 1e6:.0f} | {share:.1%} | {rate:.0f} | {of_peak} |")
    lines += [f"| sum | {total * 1e6:.0f} | | | |", ""]
    print("\n".join(lines), flush=True)
    return lines


def _tables(rows, options):
    names = ["cnnlib", *(["cnnlib float32"] if options.precision == "int8" else []), *options.engines]
    lines = ["Milliseconds, minimum / median; the ratio is the fastest engine's minimum over cnnlib's.", ""]
    lines += _heading(["network", "N", *names, "ratio", "error"])
    ratios = []
    for row in rows:
        times, own = row["times"], row["times"]["cnnlib"].minimum
        others = [each.minimum for name, each in times.items() if not name.startswith("cnnlib")]
        ratios += [min(others) / own] if others else []
        ratio = f"{ratios[-1]:.2f}" if others else "-"
        error = max(row["errors"].values())
        lines.append(_line_of(row, names, times, _least_and_median, ratio, f"{error:.0e}"))
    if ratios:
        mean = timing.geometric_mean(ratios)
        behind = sum(ratio < 1 for ratio in ratios)
        lines += ["", f"Geometric mean of the ratios: {mean:.2f}; rows below 1: {behind} of {len(ratios)}."]
    lines += ["", "Milliseconds that 99 of 100 calls take at most / images a second at the median.", ""]
    lines += _heading(["network", "N", *names])
    for row in rows:
        images = row["N"]
        lines.append(
            _line_of(row, names, row["times"], lambda t, n=images: f"{t.p99 * 1e3:.2f} / {n / t.median:.0f}")
        )
    lines += ["", "Peak memory (MB) of making the engine and three calls, beyond the network's arrays;"]
    lines += ["milliseconds to prepare.", ""]
    lines += _heading(["network", "N", *names, "prepare"])
    for row in rows:
        prepared = f"{row['prepared'] * 1e3:.0f}"
        lines.append(_line_of(row, names, row["memory"], lambda megabytes: f"{megabytes:.0f}", prepared))
    print("\n".join(lines))
    return lines


def _heading(columns):
    return [f"| {' | '.join(columns)} |", "| --- |" + " ---: |" * (len(columns) - 1)]


def _line_of(row, names, values, text, *more):
    """A line of a table: a cell text(value) for each engine that has one."""
    cells = [text(values[name]) if name in values else "-" for name in names]
    return f"| {' | '.join([row['name'], str(row['N']), *cells, *more])} |"


def _least_and_median(times):
    return f"{times.minimum * 1e3:.2f} / {times.median * 1e3:.2f}"


if __name__ == "__main__":
    sys.exit(main())

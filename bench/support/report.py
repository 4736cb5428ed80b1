"""Lines and summaries from rows of figures.

A row is what `runner.time_cell` returns, together with `group`, `name`, `dtype`, `direction`, `threads`,
`condition`, `flops` and `bytes` (0 where they mean nothing). All times are in seconds; a ratio is the peer's
time over ours, above 1 we are ahead.
"""

from __future__ import annotations

from itertools import groupby

from support import peaks as machine_peaks
from support import timing

CONDITION_TEXT = {"reused": "memory reused", "installed": "as installed"}


def ratio(row, peer, median=False):
    """The peer's minimum (or median) time over ours."""
    times = row["peers"][peer]
    return times[2 + median] / times[median]


def rate(row):
    """GF/s where operations are counted, else GB/s, of our minimum; and the unit."""
    if row["flops"]:
        return row["flops"] / row["own"][0] / 1e9, "GF/s"
    return row["bytes"] / row["own"][0] / 1e9, "GB/s"


def share(row, peaks):
    """Our rate as a share of the machine's best, with 'fma' or 'copy' (the larger), as text."""
    shares, nanoseconds = [], 1e9 * row["own"][0]
    if row["flops"]:
        shares.append((row["flops"] / nanoseconds / peaks["fma"][row["threads"]][row["dtype"]], "fma"))
    copy = machine_peaks.copy_rate_for(peaks, row["threads"], row["bytes"])
    if copy:
        shares.append((row["bytes"] / nanoseconds / copy, "copy"))
    return "{:.0%} {}".format(*max(shares)) if shares else ""


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g}"


def print_machine(machine):
    for key, value in machine.items():
        if key != "peaks":
            print(f"{key}: {value}")
    if "peaks" in machine:
        print("\n".join(machine_peaks.describe(machine["peaks"])))


def line(row, peaks):
    """A row as a line of text: minima and medians, rate and share, each peer with the ratio, difference."""
    text = f"{row['group']:15} {row['name']:34} {row['dtype']} {row['direction']:8}"
    if row.get("error"):
        return f"{text} FAILED: {row['error']}"
    number, unit = rate(row)
    text += f" {_minimum_median(row['own'])} ms {number:6.1f} {unit} {share(row, peaks):>9}"
    for peer, times in row["peers"].items():
        text += f" | {peer} {_minimum_median(times[2:])} x{ratio(row, peer):.2f}"
    text += "".join(f" | {peer} DIFFERS" for peer in row["wrong"])
    return f"{text} | {row['difference']:.0e}"


def _minimum_median(times):
    return f"{milliseconds(times[0]):>7}/{milliseconds(times[1]):7}"


def valid(rows):
    """The rows that were measured."""
    return [row for row in rows if not row.get("error")]


def summary(rows):
    """Geometric mean and minimum of the ratios, for each group and for all of them.

    Returns
    -------
    list of dict
        `peer`, `condition`, `threads`, `dtype`, `direction`, `group` ('all' for the last of each), `cells`,
        `mean`, `minimum`, `slowest` (that cell), `behind` (cells with a ratio below 1).
    """
    keys = ("dtype", "direction", "threads", "condition")
    entries = []
    for values in _distinct(rows, keys):
        chosen = [row for row in rows if tuple(row[key] for key in keys) == values]
        for peer in _peers(chosen):
            timed = [row for row in chosen if peer in row["peers"]]
            for group in (*dict.fromkeys(row["group"] for row in timed), "all"):
                ratios = {
                    f"{row['group']} {row['name']}": ratio(row, peer)
                    for row in timed
                    if group in (row["group"], "all")
                }
                slowest = min(ratios, key=ratios.get)
                entry = {
                    "peer": peer,
                    "group": group,
                    "cells": len(ratios),
                    "mean": round(timing.geometric_mean(ratios.values()), 3),
                    "minimum": round(ratios[slowest], 3),
                    "slowest": slowest,
                    "behind": sum(value < 1 for value in ratios.values()),
                }
                entries.append(dict(zip(keys, values)) | entry)
    return entries


def _distinct(rows, keys):
    return list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))


def _peers(rows):
    return list(dict.fromkeys(peer for row in rows for peer in row["peers"]))


def _title(entry):
    threads = f"{entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"
    condition = CONDITION_TEXT[entry["condition"]]
    return f"{entry['dtype']} {entry['direction']}, {threads}: {entry['peer']} ({condition}) / cnnlib"


def print_summary(entries):
    for text, members in groupby(entries, _title):
        print(f"\n{text}\n{'':15} cells  geometric mean  behind  minimum")
        for e in members:
            print(
                f"{e['group']:15} {e['cells']:5}  {e['mean']:14.2f}  {e['behind']:6}  "
                f"{e['minimum']:.2f} {e['slowest']}"
            )

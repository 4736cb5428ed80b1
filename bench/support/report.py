"""Tables and files from rows of figures.

A row is what `runner.time_cell` returns, together with `group`, `name`, `dtype`, `direction`, `threads`,
`condition`, `flops` and `bytes` (0 where they mean nothing). All times are in seconds; a ratio is the peer's
time over ours, above 1 we are ahead.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from itertools import groupby, product
from pathlib import Path

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


def print_machine(machine, bullet=""):
    for key, value in machine.items():
        if key != "peaks":
            print(f"{bullet}{key}: {value}")
    if "peaks" in machine:
        for text in machine_peaks.describe(machine["peaks"]):
            print(f"{bullet}{text}")


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


def finish(title, machine, rows, options, complete):
    """Print the summary and the cells that failed, write the files asked for; returns the exit status."""
    valid = [row for row in rows if not row.get("error")]
    entries = summary(valid)
    for text, members in groupby(entries, _title):
        print(f"\n{text}\n{'':15} cells  geometric mean  behind  minimum")
        for e in members:
            print(
                f"{e['group']:15} {e['cells']:5}  {e['mean']:14.2f}  {e['behind']:6}  "
                f"{e['minimum']:.2f} {e['slowest']}"
            )
    faults = [row for row in rows if row.get("error") or row["wrong"]]
    for row in faults:
        print(f"not compared: {line(row, machine['peaks'])}")
    if options.json:
        _write_json(options.json, machine, rows, entries, complete)
    if options.markdown:
        _write_markdown(options.markdown, title, machine, valid, entries, complete)
    return 0 if complete and not faults else 1


def _write_json(path, machine, rows, entries, complete):
    """All figures in one object, a cell a line with its runs (numbers of threads and conditions)."""
    shared, cells = ("group", "name", "dtype", "direction", "flops", "bytes"), {}
    for row in rows:
        run = {key: value for key, value in row.items() if key not in shared and value != []}
        cells.setdefault(tuple(row[key] for key in shared), []).append(_rounded(run))
    lines = [
        json.dumps(dict(zip(shared, cell)) | {"runs": runs}, separators=(",", ":"))
        for cell, runs in cells.items()
    ]
    head = json.dumps({"machine": machine, "complete": complete, "summary": entries}, indent=1)
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write(head.removesuffix("\n}") + ',\n "cells": [\n' + ",\n".join(lines) + "\n]}\n")


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return {k: _rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


def _write_markdown(path, title, machine, rows, entries, complete):
    """The machine and the summaries in one file, all cells of each dtype in another beside it."""
    path = Path(path)
    dtypes = dict.fromkeys(row["dtype"] for row in rows)
    tables = {dtype: path.with_stem(f"{path.stem}-{dtype}") for dtype in dtypes}
    with open(path, "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        print(
            f"# {title}\n\nWritten by the scripts of this folder; README.md says what they measure and how."
        )
        print(f"All cells: {', '.join(f'[{dtype}]({table.name})' for dtype, table in tables.items())}.\n")
        print_machine(machine, "- ")
        if not complete:
            print("- **This run is incomplete.**")
        print("\n## Summary\n")
        print(
            "The peer's time over ours, above 1 we are ahead: geometric mean, and the minimum with its cell."
        )
        for text, members in groupby(entries, _title):
            print(f"\n**{text}**\n\n| group | cells | mean | behind | minimum | |\n|---|--:|--:|--:|--:|---|")
            for e in members:
                print(
                    f"| {e['group']} | {e['cells']} | {e['mean']:.2f} | {e['behind']} | {e['minimum']:.2f} "
                    f"| {e['slowest']} |"
                )
    for dtype, table in tables.items():
        with open(table, "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            print(f"# {title}, {dtype}\n\nThe machine and the summary: [{path.name}]({path.name}).\n")
            print(
                "cnnlib's minimum in ms (median), 10^9 operations or bytes a second, share of the machine's"
            )
            print("best; the peer's minimum in ms and the **ratio** of the minima (of the medians).")
            members = [row for row in rows if row["dtype"] == dtype]
            for direction in dict.fromkeys(row["direction"] for row in members):
                print(f"\n## {direction}\n")
                _print_rows([row for row in members if row["direction"] == direction], machine["peaks"])


def _print_rows(rows, peaks):
    """A line for each cell; for each number of threads our figures, then each peer's under each condition."""
    threads = sorted({row["threads"] for row in rows})
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    columns = [pair for pair in product(_peers(rows), conditions) if any(_has(row, *pair) for row in rows)]
    head = ["cell"]
    for n in threads:
        head += [f"cnnlib, {n} t", "G/s", "share"]
        head += [f"{peer}, {CONDITION_TEXT[condition]}, {n} t" for peer, condition in columns]
    print(f"|{'|'.join(head)}|\n|---{'|--:' * (len(head) - 1)}|")
    found = {(row["group"], row["name"], row["threads"], row["condition"]): row for row in rows}
    for group, name in _distinct(rows, ("group", "name")):
        cells = [f"{group} {name}"]
        for n in threads:
            by_condition = {condition: found.get((group, name, n, condition)) for condition in conditions}
            cells += _own_cells(next(filter(None, by_condition.values()), None), peaks)
            cells += [_peer_cell(by_condition[condition], peer) for peer, condition in columns]
        print(f"|{'|'.join(cells)}|")


def _has(row, peer, condition):
    return row["condition"] == condition and (peer in row["peers"] or peer in row["wrong"])


def _own_cells(row, peaks):
    if row is None:
        return ["", "", ""]
    times = f"{milliseconds(row['own'][0])} ({milliseconds(row['own'][1])})"
    return [times, f"{rate(row)[0]:.0f}", share(row, peaks)]


def _peer_cell(row, peer):
    if row is None or not _has(row, peer, row["condition"]):
        return ""
    if peer in row["wrong"]:
        return "differs"
    theirs, of_medians = milliseconds(row["peers"][peer][2]), ratio(row, peer, median=True)
    return f"{theirs} **{ratio(row, peer):.2f}** ({of_medians:.2f})"

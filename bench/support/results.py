"""Files of figures: runs as JSON.

A file holds `runs`, each a dict with `title`, `machine` (what `runner.machine` says), `complete` and `cells`.
A cell is a row of `report`; the figures of each number of threads and memory condition are in `runs`.
"""

from __future__ import annotations

import gzip
import json

_SHARED = ("group", "name", "dtype", "direction", "flops", "bytes")


def run(title, machine, rows, complete):
    """A run of `rows`, its figures rounded to four digits."""
    cells = {}
    for row in rows:
        figures = {key: value for key, value in row.items() if key not in _SHARED and value != []}
        cells.setdefault(tuple(row[key] for key in _SHARED), []).append(_rounded(figures))
    cells = [dict(zip(_SHARED, cell)) | {"runs": runs} for cell, runs in cells.items()]
    return {"title": title, "machine": machine, "complete": complete, "cells": cells}


def rows(run):
    """The rows that a run was made of."""
    for cell in run["cells"]:
        shared = {key: cell[key] for key in _SHARED}
        yield from ({"wrong": []} | shared | figures for figures in cell["runs"])


def read(path):
    with opened(path, "rt") as file:
        runs = json.load(file)["runs"]
    for one in runs:
        peaks = one["machine"]["peaks"]  # whose numbers are keys, which JSON makes texts
        peaks["fma"] = {int(threads): rates for threads, rates in peaks["fma"].items()}
        peaks["copy"] = {
            int(threads): {int(size): rate for size, rate in rates.items()}
            for threads, rates in peaks["copy"].items()
        }
    return runs


def write(path, runs):
    """Write runs, a cell a line."""
    texts = []
    for one in runs:
        head = json.dumps({key: value for key, value in one.items() if key != "cells"}, indent=1)
        lines = ",\n".join(json.dumps(cell, separators=(",", ":")) for cell in one["cells"])
        texts.append(head.removesuffix("\n}") + f',\n "cells": [\n{lines}\n]}}')
    with opened(path, "wt") as file:
        file.write('{"runs": [\n' + ",\n".join(texts) + "\n]}\n")


def opened(path, mode):
    """The file as text, packed where the name ends in .gz."""
    return (gzip.open if str(path).endswith(".gz") else open)(path, mode, encoding="utf-8")


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return {k: _rounded(v) for k, v in value.items()} if isinstance(value, dict) else value

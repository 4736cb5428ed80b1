"""What the timings of cnnlib's convolution methods say: where 'auto' errs, and what each method is worth.

A row is a dict with `group`, `name`, `N`, `dtype`, `isa`, `pass`, `threads`, `auto` (the method chosen),
`seconds` (method -> s), `cost` (method -> cycles of an image by the model), `difference` (the largest
from the result of `auto`) and `ghz` (the clock beside the timing, or None); a row of a training step also has
`count`, how often the step computes it. Each table is a list of rows
of text, the first one its head.
"""

from __future__ import annotations

import math
import statistics
from itertools import product

from support import shapes, timing

BAR = 1.1  # 'auto' may take this much longer than the best method
LITTLE_NETWORK, LITTLE_CELL = 1.02, 1.1  # a method that is worth less than both is a candidate for removal


def loss(row):
    """The time of the method that 'auto' chooses over that of the fastest."""
    return row["seconds"][row["auto"]] / min(row["seconds"].values())


def cell(row):
    return f"{row['group']} {row['name']} N={row['N']}"


def setting(row):
    return f"{row['dtype']}, {row['threads']} t"


def choice_table(rows):
    """How good 'auto' is, for each setting and pass."""
    table = [("isa", "dtype", "threads", "pass", "cells", "auto / best", f"over {BAR}", "worst", "")]
    for key, members in _grouped(rows, "isa", "dtype", "threads", "pass"):
        worst = max(members, key=loss)
        mean = timing.geometric_mean(map(loss, members))
        behind = sum(loss(row) > BAR for row in members)
        table.append((*map(str, key), f"{len(members)}", f"{mean:.3f}", f"{behind}", f"{loss(worst):.2f}"))
        table[-1] += (cell(worst),)
    return table


def lost_table(rows):
    """The cells where 'auto' takes over BAR of the best method's time, the worst first."""
    table = [("cell", "isa", "dtype", "threads", "pass", "auto", "ms", "best", "ms", "ratio")]
    for row in sorted((row for row in rows if loss(row) > BAR), key=loss, reverse=True):
        seconds = row["seconds"]
        best = min(seconds, key=seconds.get)
        place = (cell(row), row["isa"], row["dtype"], f"{row['threads']}", row["pass"])
        times = (row["auto"], f"{1e3 * seconds[row['auto']]:.3g}", best, f"{1e3 * seconds[best]:.3g}")
        table.append((*place, *times, f"{loss(row):.2f}"))
    return table


def without(row, method):
    """How many times as long the cell takes if `method` is forbidden, so that 'auto' takes the next cheapest.

    1 where the method is not chosen, None where no other fits.
    """
    if row["auto"] != method:
        return 1.0
    others = {name: cost for name, cost in row["cost"].items() if name != method and name in row["seconds"]}
    if not others:
        return None
    return row["seconds"][min(others, key=others.get)] / row["seconds"][method]


def worth_table(rows):
    """What is lost without each method: over the cells of networks, on one network, on one cell."""
    table = [("pass", "method", "isa", "chosen", "alone", "mean", "network", "", "cell", "")]
    for (name,), members in _grouped(rows, "pass"):
        by_isa = list(_grouped(members, "isa"))
        for method, ((isa,), part) in product(_methods(members), by_isa):
            table.append((name, method, isa, *_worth(part, method)))
    return table


def of_steps(rows):
    return [row for row in rows if "count" in row]


def of_cells(rows):
    return [row for row in rows if "count" not in row]


def step_table(rows):
    """How much longer the convolutions of each network's training step take without a method."""
    nets = list(dict.fromkeys(row["group"] for row in rows))
    table = [("pass", "method", "isa", "dtype", "threads", *nets)]
    for key, members in _grouped(rows, "isa", "dtype", "threads"):
        total = {net: sum(map(_step_seconds, _of(members, group=net))) for net in nets}
        for (name,), part in _grouped(members, "pass"):
            for method in _methods(part):
                lost = [_percent(1 + _step_loss(_of(part, group=net), method) / total[net]) for net in nets]
                table.append((name, method, *map(str, key), *lost))
    return table


def _step_seconds(row):
    return row["count"] * row["seconds"][row["auto"]]


def _step_loss(rows, method):
    """Seconds that a step loses on these rows without `method`; where nothing else fits, none are counted."""
    return sum(((without(row, method) or 1) - 1) * _step_seconds(row) for row in rows)


def candidates(rows):
    """The (pass, method) whose absence costs less than LITTLE_* in every instruction set measured."""
    found = []
    for (name,), members in _grouped(rows, "pass"):
        for method in _methods(members):
            losses = [without(row, method) for row in members]
            networks = _network_losses(members, method)
            if None not in losses and max(losses) < LITTLE_CELL and max(networks.values()) < LITTLE_NETWORK:
                found.append((name, method))
    return found


def fit_table(rows, ghz=None):
    """Measured cycles over the model's cost, for each method: its mean, and by how much that varies.

    Only rows of one thread count. 'auto' is right where the methods' means are alike and the spreads small.
    """
    table = [("pass", "method", "isa", "dtype", "cells", "cycles / cost", "spread", "least", "", "most", "")]
    rows = [row for row in rows if row["threads"] == 1 and (ghz or row["ghz"])]
    for (name, isa, dtype), members in _grouped(rows, "pass", "isa", "dtype"):
        for method in _methods(members):
            ratios = {
                cell(row): row["seconds"][method] * 1e9 * (ghz or row["ghz"]) / row["N"] / row["cost"][method]
                for row in members
                if method in row["seconds"]
            }
            if not ratios:
                continue
            logs = [math.log(ratio) for ratio in ratios.values()]
            least, most = min(ratios, key=ratios.get), max(ratios, key=ratios.get)
            mean, spread = math.exp(statistics.fmean(logs)), math.exp(statistics.pstdev(logs))
            line = (name, method, isa, dtype, f"{len(ratios)}", f"{mean:.3f}", f"{spread:.2f}")
            table.append((*line, f"{ratios[least]:.2f}", least, f"{ratios[most]:.2f}", most))
    return table


def _worth(rows, method):
    """The cells of a method's line in worth_table."""
    losses = [(without(row, method), row) for row in rows]
    chosen = sum(row["auto"] == method for row in rows)
    alone = sum(value is None for value, _ in losses)
    known = [(value, row) for value, row in losses if value is not None]
    counts = (f"{chosen} of {len(rows)}", f"{alone or ''}")
    if not any(row["auto"] == method for _, row in known):
        return (*counts, *[""] * 5)
    networks = [value for value, row in known if row["group"] in shapes.NETWORKS]
    mean = _percent(timing.geometric_mean(networks)) if networks else ""
    by_network = _network_losses(rows, method)
    network = max(by_network, key=by_network.get)
    value, row = max((pair for pair in known if pair[1]["auto"] == method), key=lambda pair: pair[0])
    network_cells = (_percent(by_network[network]), network) if network else ("", "")
    return (*counts, mean, *network_cells, _percent(value), f"{cell(row)} ({setting(row)})")


def _network_losses(rows, method):
    """The geometric mean loss of each network in each setting; at least {'': 1}."""
    found = {"": 1.0}
    for (group, dtype, threads), members in _grouped(rows, "group", "dtype", "threads"):
        losses = [value for row in members if (value := without(row, method)) is not None]
        if group in shapes.NETWORKS and losses:
            found[f"{group} ({dtype}, {threads} t)"] = timing.geometric_mean(losses)
    return found


def _percent(ratio):
    return f"{100 * (ratio - 1):+.1f} %"


def _methods(rows):
    return list(dict.fromkeys(method for row in rows for method in row["cost"]))


def _of(rows, **values):
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def _grouped(rows, *keys):
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups.items()


def as_text(table):
    """The table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return "\n".join("  ".join(text.ljust(n) for text, n in zip(line, widths)).rstrip() for line in table)


def as_markdown(table):
    head, *lines = table
    numbers = [all(line[i][:1].isdigit() or line[i][:1] in "+-" for line in lines) for i in range(len(head))]
    rules = ["--:" if number else "---" for number in numbers]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rules, *lines))

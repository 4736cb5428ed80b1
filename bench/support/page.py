"""The summary of runs on one class of processors, as a page of Markdown."""

from __future__ import annotations

from support import peaks, report, results

_BEHIND = 15  # cells named for each run
_FACTS = (
    "processor",
    "cpus",
    "system",
    "compiler",
    "cnnlib",
    "python",
    "numpy",
    "torch",
    "jax",
    "load",
    "note",
)


def text(runs):
    """The page.

    Parameters
    ----------
    runs : list of dict
        As in `results`, all of one class of processors and one instruction set.
    """
    machine = runs[0]["machine"]
    parts = [f"# {runs[0]['title'].partition(',')[0]}: {machine['class']}, {machine['isa']}"]
    parts.append(
        "Written by the scripts of this folder; README.md says what they measure and how. The peer's time\n"
        "over ours, above 1 we are ahead: geometric mean / least (cells behind, where there are any)."
    )
    parts += [section for one in runs for section in _sections(one)]
    return "\n\n".join(parts) + "\n"


def _sections(run):
    machine, rows = run["machine"], report.valid(results.rows(run))
    entries = report.summary(rows)
    yield f"## {run['title']}\n\n{machine['date'][:10]}, commit {machine['commit']}"
    facts = [f"{key} {machine[key]}" for key in _FACTS if machine.get(key) is not None]
    lines = [", ".join(facts), *peaks.describe(machine["peaks"])]
    if not run["complete"]:
        lines.append("**This run is incomplete.**")
    yield "\n".join(f"- {line}" for line in lines)
    for peer, condition in dict.fromkeys((entry["peer"], entry["condition"]) for entry in entries):
        chosen = [entry for entry in entries if (entry["peer"], entry["condition"]) == (peer, condition)]
        yield f"{peer}, {report.CONDITION_TEXT[condition]}:\n\n{_table(chosen)}"
    yield _behind(rows)


def _table(entries):
    """A line for each group, a column for each dtype, direction and number of threads."""
    columns = list(dict.fromkeys(map(_column, entries)))
    head = [f"{dtype} {direction}, {threads} t" for dtype, direction, threads in columns]
    lines = [f"| group | cells | {' | '.join(head)} |", f"|---|--:|{'---|' * len(columns)}"]
    found = {(entry["group"], _column(entry)): entry for entry in entries}
    for group in dict.fromkeys(entry["group"] for entry in entries):
        members = [found.get((group, column)) for column in columns]
        cells = max(entry["cells"] for entry in members if entry)
        lines.append(f"| {group} | {cells} | {' | '.join(map(_figures, members))} |")
    return "\n".join(lines)


def _column(entry):
    return entry["dtype"], entry["direction"], entry["threads"]


def _figures(entry):
    if entry is None:
        return ""
    behind = f" ({entry['behind']})" if entry["behind"] else ""
    return f"{entry['mean']:.2f} / {entry['minimum']:.2f}{behind}"


def _behind(rows):
    """The cells on which a peer is ahead, the furthest first."""
    lost = [
        (report.ratio(row, peer), row, peer)
        for row in rows
        for peer in row["peers"]
        if report.ratio(row, peer) < 1
    ]
    if not lost:
        return "Behind: none."
    lost.sort(key=lambda item: item[0])
    lines = [f"Behind: {len(lost)}" + (", of which the furthest are" if len(lost) > _BEHIND else ""), ""]
    for value, row, peer in lost[:_BEHIND]:
        place = f"{row['dtype']} {row['direction']}, {row['threads']} t"
        condition = report.CONDITION_TEXT[row["condition"]]
        lines.append(f"- {value:.3f} {row['group']} {row['name']}, {place}, {peer} {condition}")
    return "\n".join(lines)

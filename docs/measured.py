"""The tables and charts of measurements.md, from bench/results.json.gz and bench/INFERENCE.md.

    python docs/measured.py

writes the tables between the marks of the page, and a chart for each class of processors to docs/images.
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BENCH = DOCS.parent / "bench"
PAGE = DOCS / "measurements.md"
sys.path[:0] = [str(BENCH), str(DOCS / "pictures")]

from diagrams import FAINT, FILTER, IMAGE, INK, Drawing  # noqa: E402
from support import report, results  # noqa: E402

PASSES = [(dtype, way) for dtype in ("float32", "float64") for way in ("forward", "backward")]
SETS = {"avx512": "AVX-512", "avx2": "AVX2"}
SHOWN = 8  # the batch of the charts
MARKS = re.compile(r"(<!-- (\w+): written by docs/measured.py -->\n).*?(<!-- end -->)", re.DOTALL)


class Runs:
    """The runs kept, each with PyTorch's time over ours where memory is reused."""

    def __init__(self):
        self.runs = results.read(BENCH / "results.json.gz")

    def summaries(self, title):
        """(processor, set, entries) of each run whose title begins so, in the order of the file."""
        for run in self.runs:
            if run["title"].startswith(title):
                rows = report.valid(results.rows(run))
                rows = [row for row in rows if row["condition"] == "reused" and "torch" in row["peers"]]
                machine = run["machine"]
                yield run["title"], machine["class"], SETS[machine["isa"]], rows

    def convolutions(self):
        """A line for each run and number of threads."""
        lines = []
        for title, processor, isa, rows in self.summaries("Convolutions"):
            batch = title.rpartition(" ")[2]
            for threads in sorted({row["threads"] for row in rows}):
                chosen = [row for row in rows if row["threads"] == threads]
                found = {
                    _pass(e): e
                    for e in report.summary(chosen)
                    if e["peer"] == "torch" and e["group"] == "all"
                }
                cells = [_mean_and_least(found.get(key)) for key in PASSES]
                behind = sum(e["behind"] for e in found.values())
                count = sum(e["cells"] for e in found.values())
                lines.append([f"{processor}, {isa}", batch, str(threads), *cells, f"{behind} of {count}"])
        head = ["processor", "batch", "threads", *(f"{dtype} {way}" for dtype, way in PASSES), "behind"]
        return _table(head, sorted(lines, key=lambda line: (line[0], int(line[1]))))

    def steps(self):
        """A line for each network, two columns for each processor, with two threads."""
        return self._side_by_side("Training steps", ("float32", "float64"), self._step_ratios)

    def layers(self):
        """A line for each family of layers bound by memory, with two threads in float32."""
        return self._side_by_side("Memory-bound", ("forward", "backward"), self._layer_ratios)

    def _side_by_side(self, title, columns, ratios):
        """A table whose lines are what `ratios(rows)` names, its columns those of every run."""
        head, lines = [""], {}
        for number, (_, processor, isa, rows) in enumerate(self.summaries(title)):
            head += [f"{processor}, {isa}: {column}" for column in columns]
            for name, values in ratios([row for row in rows if row["threads"] == 2]).items():
                line = lines.setdefault(name, {})
                line |= {(number, column): values.get(column, "–") for column in columns}
        keys = list(dict.fromkeys(key for line in lines.values() for key in line))
        return _table(head, [[name, *(line.get(key, "–") for key in keys)] for name, line in lines.items()])

    def _step_ratios(self, rows):
        found = {}
        for row in rows:
            name = row["name"].partition(" N=")[0]
            found.setdefault(name, {})[row["dtype"]] = f"{report.ratio(row, 'torch'):.2f}"
        return found

    def _layer_ratios(self, rows):
        """Of a loss and an update, whose passes are one, in the first column."""
        found = {}
        for entry in report.summary([row for row in rows if row["dtype"] == "float32"]):
            if entry["peer"] == "torch" and entry["group"] != "all":
                way = entry["direction"] if entry["direction"] == "backward" else "forward"
                found.setdefault(entry["group"], {})[way] = _mean_and_least(entry)
        return found

    def charts(self):
        """SVG by file name: the ratio by network, for each class of processors and instruction set."""
        drawn = {}
        for _, processor, isa, rows in self.summaries(f"Convolutions, batch {SHOWN}"):
            chosen = [row for row in rows if row["threads"] == 2 and row["dtype"] == "float32"]
            entries = [e for e in report.summary(chosen) if e["peer"] == "torch"]
            name = re.sub("[^a-z0-9]+", "", f"{processor}{isa}".lower())
            drawn[f"measured-{name}.svg"] = _chart(f"{processor}, {isa}", entries)
        return drawn


def _pass(entry):
    return entry["dtype"], entry["direction"]


def _mean_and_least(entry):
    return f"{entry['mean']:.2f} / {entry['minimum']:.2f}" if entry else "–"


def _table(head, lines):
    rule = ["---", *("---:" if re.match(r"[\d–]", lines[0][i]) else "---" for i in range(1, len(head)))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines)) + "\n"


def _prepared():
    """The ratios of bench/INFERENCE.md, a line for each network."""
    table = {}
    for line in (BENCH / "INFERENCE.md").read_text(encoding="utf-8").partition("| ratio |")[2].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 10:
            table.setdefault(cells[0].strip(), {})[cells[1]] = cells[8]
    batches = ["1", "8", "100"]
    return _table(
        ["network", *(f"batch {n}" for n in batches)],
        [[name, *(ratios.get(n, "–") for n in batches)] for name, ratios in table.items() if "1" in ratios],
    )


def _chart(title, entries):
    """Bars of the geometric means, forward and backward, and a line where both are equally fast."""
    groups = list(dict.fromkeys(e["group"] for e in entries))
    left, unit, row, top = 92, 54, 32, 62
    most = 4.5  # of the axis; a longer bar is cut, its number tells
    d = Drawing(380, top + row * len(groups) + 22, f"PyTorch's time over cnnlib's by network: {title}")
    d.text(16, 24, title, anchor="start", weight="bold")
    for x, colour, way in ((16, IMAGE, "forward"), (106, FILTER, "backward")):
        d.box(x, 36, 12, 12, colour)
        d.text(x + 18, 47, way, anchor="start")
    bottom = top + row * len(groups)
    for value in range(5):
        x = left + unit * value
        d.parts.append(
            f'<line x1="{x}" y1="{top - 6}" x2="{x}" y2="{bottom}" stroke="{INK if value == 1 else FAINT}"/>'
        )
        d.text(x, bottom + 15, str(value), size=12)
    for number, group in enumerate(groups):
        y = top + row * number
        d.text(left - 6, y + 17, group, anchor="end", weight="bold" if group == "all" else "normal")
        for place, (colour, way) in enumerate(((IMAGE, "forward"), (FILTER, "backward"))):
            mean = next(e["mean"] for e in entries if e["group"] == group and e["direction"] == way)
            width = unit * min(mean, most)
            d.box(left, y + 12 * place, round(width, 1), 11, colour, "none")
            d.text(left + width + 4, y + 10 + 12 * place, f"{mean:.1f}", anchor="start", size=11)
    return str(d)


def filled(text, runs=None):
    """The page with its tables as they are now."""
    runs = runs or Runs()
    tables = {
        "convolutions": runs.convolutions,
        "steps": runs.steps,
        "layers": runs.layers,
        "prepared": _prepared,
    }
    return MARKS.sub(lambda match: f"{match[1]}\n{tables[match[2]]()}\n{match[3]}", text)


def main():
    runs = Runs()
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), runs), encoding="utf-8")
    for name, drawing in runs.charts().items():
        (DOCS / "images" / name).write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()

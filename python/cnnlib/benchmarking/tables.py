"""A comparison as text: a chart for the terminal, a table to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnlib._system.config import current_config
from cnnlib._system.text import size_text

if TYPE_CHECKING:
    from cnnlib.benchmarking.comparison import Comparison, Row

_WIDTH = 40  # columns of the longest bar
_COLUMNS = ("engine", "minimum ms", "median ms", "times cnnlib", "difference", "memory", "installed")


def chart(comparison: Comparison) -> str:
    """Return a bar for the minimum of each row, and a line for each that was not timed."""
    timed = [row for row in comparison.rows if row.times is not None]
    longest = max((row.times.minimum for row in timed if row.times), default=0.0)
    width = max((len(row.name) for row in comparison.rows), default=0)
    lines = [_heading(comparison), ""]
    for row in timed:
        assert row.times is not None
        bar = "█" * max(1, round(_WIDTH * row.times.minimum / longest))
        lines.append(f"{row.name:{width}}  {bar} {1e3 * row.times.minimum:.3g} ms")
    lines += [f"{row.name:{width}}  not timed: {row.reason}" for row in comparison.rows if row.times is None]
    if comparison.missing:
        lines.append(f"not installed: {', '.join(comparison.missing)}")
    return "\n".join(lines)


def markdown(comparison: Comparison) -> str:
    """Return a table in Markdown, with what the figures depend on above it."""
    config = current_config()
    versions = [f"{row.engine} {row.version}" for row in comparison.rows if row.version is not None]
    about = (
        f"{_heading(comparison)}; {config['processor']} ({config['instruction set']}); "
        f"{', '.join(dict.fromkeys(versions))}, numpy {config['numpy']}"
    )
    first = next((row.times.minimum for row in comparison.rows if row.times is not None), None)
    lines = [about, "", f"| {' | '.join(_COLUMNS)} |", "| --- |" + " ---: |" * (len(_COLUMNS) - 1)]
    lines += [f"| {' | '.join(_cells(row, first))} |" for row in comparison.rows]
    notes = [f"{row.name} was not timed: {row.reason}." for row in comparison.rows if row.times is None]
    notes += [f"Not installed: {', '.join(comparison.missing)}."] if comparison.missing else []
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _heading(comparison: Comparison) -> str:
    what = "a training step of" if comparison.what == "step" else "scores of"
    images = f"{comparison.batch} sample{'s' * (comparison.batch != 1)}"
    threads = f"{comparison.threads} thread{'s' * (comparison.threads != 1)}"
    return f"{comparison.network}: {what} {images}, {threads}"


def _cells(row: Row, first: float | None) -> list[str]:
    """The texts of a row, of which `first` seconds are the unit of the ratios."""
    times: list[Any] = ["-"] * 3
    if row.times is not None and first is not None:
        minimum, median = row.times.minimum, row.times.median
        times = [f"{1e3 * minimum:.3g}", f"{1e3 * median:.3g}", f"{minimum / first:.2f}"]
    error = "-" if row.error is None else f"{row.error:.0e}"
    sizes = ["-" if size is None else size_text(size) for size in (row.memory, row.size)]
    return [row.name, *times, error, *sizes]

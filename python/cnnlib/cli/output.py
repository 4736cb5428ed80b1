"""What the command prints: names and texts that come from files are escaped before a terminal sees them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnnlib._system.text import folded, printable, shape_text

if TYPE_CHECKING:
    from cnnlib.runs import Run


def say(text: str, *, fold: bool = True) -> None:
    """Print a line of text, on a narrow terminal in several unless it may not be folded."""
    text = printable(text)
    print(folded(text) if fold else text, flush=True)


def say_left_out(faults: Sequence[str]) -> None:
    """List on the standard error the files that were left out, a line each with the reason."""
    if faults:
        complain(f"left out {len(faults)} file{'s' * (len(faults) > 1)} that cannot be read:")
        for fault in faults:
            print(f"  {one_line(fault)}", file=sys.stderr)


def complain(text: str) -> None:
    """Print a line on the standard error, with the command's name before it."""
    print(f"cnnlib: {one_line(text)}", file=sys.stderr)


def complain_without_lock(run: Run) -> None:
    """Say where nothing keeps another training from writing to the run's folder."""
    if not run.has_lock:
        complain(f"no lock can be held in {run.folder}: nothing keeps another training from writing to it")


def one_line(text: str) -> str:
    """`text` in one printable line."""
    return printable(" ".join(text.split()))


def json_text(value: Any) -> str:
    """`value` as JSON that reads back the same, with nothing in it that would steer a terminal.

    ValueError for NaN and infinity, which JSON does not have.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ValueError("--json: the model gives NaN or infinity, which JSON does not have") from None
    return "\n".join(map(_escaped, text.split("\n")))


@contextlib.contextmanager
def at_its_cost(what: str, note: Callable[[str], Any] = lambda fault: None) -> Iterator[None]:
    """Turn an error in the block into a line that `what` is left out; `note` is called with the fault."""
    try:
        yield
    except Exception as error:
        fault = one_line(f"{type(error).__name__}: {error}").removesuffix(":")
        note(fault)
        say(f"left out: {what} ({fault})")


def say_passed_over(folder):
    """Name the suffixes of files that count as no images, as those of a telephone's photos may."""
    from cnnlib.data.image_files import passed_over  # takes time, which commands without images need not

    text = passed_over(folder)
    if text:
        say(text.removeprefix("; "))


def counted(label, data, shape, outputs, task="classes"):
    """Begin a line: how many images the splits have, their shape, and how many classes or numbers."""
    words = {"train": "training", "val": "validation", "test": "test"}
    counts = (f"{len(data[f'y_{part}'])} {word}" for part, word in words.items())
    size, kind = shape_text(shape), "classes" if task == "classes" else "outputs"
    return f"{label}: {', '.join(counts)} images of {size} in {outputs} {kind}"


def _escaped(line):
    """JSON's own escapes for what is not printable, which stands in strings alone."""
    return "".join(json.dumps(part)[1:-1] if printable(part) != part else part for part in line)

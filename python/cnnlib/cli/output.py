"""What the command prints: names and texts that come from files are escaped before a terminal sees them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cnnlib._system.text import folded, printable


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


def _escaped(line):
    """JSON's own escapes for what is not printable, which stands in strings alone."""
    return "".join(json.dumps(part)[1:-1] if printable(part) != part else part for part in line)

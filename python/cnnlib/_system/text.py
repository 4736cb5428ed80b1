"""Text that comes from files, such as names of classes, as a terminal or a page may show it."""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata

_JOINERS = "\u200c\u200d"  # parts of words and of emoji, although their category is that of controls
_EMOJI_STYLE = "\ufe0f"  # makes the character before it two columns wide
_INDENT = "    "  # of a line that goes on
_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")


def printable(text: str) -> str:
    """`text` with every character escaped that would steer a terminal, reorder the line or not be seen.

    Control characters, line and paragraph separators, directional marks, surrogates (bytes of a file's name
    that are no text) and unassigned characters become what ``ascii`` makes of them.

    Examples
    --------
    >>> printable("a cat\\x1b[2J"), printable("Z\\u00fcrich")
    ('a cat\\\\x1b[2J', 'Zürich')
    """
    if text.isprintable():
        return text
    return "".join(
        c if c in _JOINERS or unicodedata.category(c) not in _UNSEEN else ascii(c)[1:-1] for c in text
    )


def display_width(text: str) -> int:
    """The columns of a terminal that `text` takes: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    width, joined = 0, False
    for character in text:
        if character == _EMOJI_STYLE:
            width += 1
        elif not joined:
            width += _columns(character)
        joined = character == "\u200d"
    return width


def padded(text: str, width: int) -> str:
    """`text` with spaces behind it up to so many columns."""
    return text + " " * (width - display_width(text))


def shortened(text: str, width: int) -> str:
    """`text`, or its beginning and an ellipsis where it takes more columns."""
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"


def folded(text: str) -> str:
    """`text` in lines no longer than the terminal is wide; as it is where the standard output is none.

    Broken behind semicolons, and what is too long even then between words.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    lines = [""]
    for part in text.split("; "):
        if not lines[-1]:
            lines[-1] = part
        elif len(lines[-1]) + len(part) + 2 > columns:
            lines.append(f"{_INDENT}{part}")
        else:
            lines[-1] += f"; {part}"
    wrap = textwrap.TextWrapper(columns, "", _INDENT, break_long_words=False, break_on_hyphens=False).wrap
    return "\n".join(piece for line in lines for piece in wrap(line) or [""])


def _columns(character):
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\U0001f3fb" <= character <= "\U0001f3ff":
        return 0  # the last are the colours of skin, which the emoji before takes on
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def csv_text(text: str) -> str:
    """
    Return a name as a cell of a CSV file that no spreadsheet takes for a formula.

    Spreadsheets compute a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return. An
    apostrophe before it makes it text, as OWASP's page on CSV injection recommends. Numbers that we write
    ourselves do not go through here.
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def shape_text(shape: object) -> str:
    """A shape, or a number for both axes, as in '16x8x8'."""
    return "x".join(map(str, shape)) if isinstance(shape, (tuple, list)) else str(shape)


def size_text(number: int) -> str:
    """A number of bytes as text, in the unit that suits it."""
    if number >= 2**20:
        return f"{number / 2**20:.1f} MB"
    return f"{number / 2**10:.0f} KB" if number >= 2**10 else f"{number} B"

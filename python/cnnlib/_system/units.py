"""Numbers with their units, for people."""

from __future__ import annotations


def size_text(number: int) -> str:
    """A number of bytes as text, in the unit that suits it."""
    if number >= 2**20:
        return f"{number / 2**20:.1f} MB"
    return f"{number / 2**10:.0f} KB" if number >= 2**10 else f"{number} B"

"""What the pictures share: matplotlib, axes, colours."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import type_name
from cnnlib._system.packages import required
from cnnlib._system.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = "#1f77b4", "#d95f02"  # told apart by colour-blind readers too
INK = "#333333"


def pyplot() -> Any:
    """matplotlib.pyplot; ImportError that names the extra, where it is missing."""
    return required("matplotlib.pyplot", "cnnlib.plots", "matplotlib", "plots")


def new_axes(ax: Axes | None) -> Axes:
    """`ax`, or those of a new figure."""
    return pyplot().subplots(layout="constrained")[1] if ax is None else ax


def new_figure(fig: Figure | None) -> Figure:
    """`fig`, or a new figure."""
    return pyplot().figure(layout="constrained") if fig is None else fig


def numbers_of(function: str, name: str, values: Any, ndim: int = 1) -> NDArray[Any]:
    """What a picture is drawn of as an array of numbers with `ndim` axes; refuses anything else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.empty((), object)
    if array.dtype.kind not in "fiub" or array.ndim != ndim:
        got = f"shape {array.shape}" if array.dtype.kind in "fiub" and array.ndim else type_name(values)
        raise ValueError(
            f"{function}: {name} must be numbers with {ndim} ax{'i' if ndim == 1 else 'e'}s, got {got}"
        )
    return array


def labels_of(function: str, count: int, **labels: Any) -> list[NDArray[Any]]:
    """Labels from 0 to `count` - 1, as many in each argument; refuses others."""
    arrays = [numbers_of(function, name, values) for name, values in labels.items()]
    for name, array in zip(labels, arrays):
        if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= count):
            raise ValueError(
                f"{function}: {name} must be integers from 0 to {count - 1}, got {array.dtype} "
                f"from {array.min():g} to {array.max():g}"
            )
        if len(array) != len(arrays[0]):
            raise ValueError(
                f"{function}: {len(arrays[0])} labels in {next(iter(labels))}, {len(array)} in {name}"
            )
    return [array.astype(np.intp) for array in arrays]  # which no count overflows


def count_in_integers(ax: Axes) -> None:
    """Have no tick between two whole numbers of the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def open_frame(ax: Axes) -> Axes:
    """Draw the frame at the left and below alone, and a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


_SIZE = 10.0  # points, at which a font must be able to draw: fonts of coloured bitmaps are not


def lettering(names: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    """Names that can be drawn, and the properties of matplotlib's texts that show them.

    Nothing in a name counts as mathematics or TeX. What the default font lacks comes from another installed
    font; a character that none of them has is escaped, as ``\\u732b``.
    """
    from matplotlib import rcParams

    names = list(map(printable, names))
    missing = {character for name in names for character in name if not character.isascii()}
    families = []
    for family, path in _fonts(tuple(rcParams["font.family"])):
        if not missing:
            break
        drawn = _drawn(path, missing)
        missing -= drawn
        if drawn and family is not None:
            families.append(family)
    if missing:
        escaped = {ord(character): ascii(character)[1:-1] for character in missing}
        names = [name.translate(escaped) for name in names]
    properties: dict[str, Any] = {"parse_math": False, "usetex": False}
    if families:
        properties["fontfamily"] = [*rcParams["font.family"], *families]
    return names, properties


@functools.lru_cache(maxsize=8)
def _fonts(default):
    """Families and their files: the default (under the family None), then the others, regular ones first."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    regular: dict[str, str] = {}
    for font in sorted(fontManager.ttflist, key=lambda font: (font.style != "normal", font.weight != 400)):
        if not font.name.startswith("Last Resort"):  # it has a box for every character
            regular.setdefault(font.name, font.fname)
    return [(None, findfont(FontProperties(family=list(default)))), *sorted(regular.items())]


def _drawn(path, characters):
    """Find the characters that a font has and can draw."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
        charmap = font.get_charmap()
        found = {character for character in characters if ord(character) in charmap}
        font.set_size(_SIZE, 72)
        for character in sorted(found)[:1]:
            font.load_char(ord(character))
    except (OSError, RuntimeError, ValueError):  # a font that is damaged, gone, or made of bitmaps
        return set()
    return found

"""What the pictures share: matplotlib, axes, colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE = "#1f77b4", "#d95f02"  # told apart by colour-blind readers too
INK = "#333333"


def pyplot() -> Any:
    """matplotlib.pyplot; ImportError that names the extra, where it is missing."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("cnnlib.plots needs matplotlib: pip install cnnlib[plots]") from error
    return plt


def new_axes(ax: Axes | None) -> Axes:
    """`ax`, or those of a new figure."""
    return pyplot().subplots(layout="constrained")[1] if ax is None else ax


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

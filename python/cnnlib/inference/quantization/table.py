"""What became of each layer of an eight-bit network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnlib.models.summary import aligned


@dataclass(frozen=True)
class Row:
    """A layer of an eight-bit network.

    Attributes
    ----------
    layer : str
    precision : str
        'int8' or 'float32'.
    seen : (float, float) or None
        The least and the greatest of its outputs in calibration; None: the network comes from an ONNX file.
    covered : (float, float) or None
        The range that bytes cover; what lies outside is clipped. None: no bytes.
    snr : float or None
        The signal over the error that the layer's own quantisation makes, in dB; 6 dB a bit. None: no bytes
        are made, or nothing was calibrated.
    share : float or None
        Of the time that one sample takes; None: not measured, or part of the layer before.
    """

    layer: str
    precision: str
    seen: tuple[float, float] | None
    covered: tuple[float, float] | None
    snr: float | None
    share: float | None = None


class Quantization(Sequence[Row]):
    """A table of an eight-bit network's layers, from `Predictor.quantization`; its text is for people."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def timed(self, steps: Sequence[tuple[str, float]]) -> Quantization:
        """With each layer's share of the time of a network's steps, label and seconds, in their order."""
        total, rest, rows = sum(seconds for _, seconds in steps), list(steps), []
        for row in self.rows:
            place = next(
                (i for i, (label, _) in enumerate(rest) if f"{label} + ".startswith(f"{row.layer} + ")), None
            )
            if place is None:
                rows.append(row)
                continue
            rows.append(replace(row, share=rest[place][1] / total if total else 0.0))
            del rest[: place + 1]
        return Quantization(rows)

    def __str__(self) -> str:
        timed = any(row.share is not None for row in self.rows)
        texts = [("layer", "precision", "seen", "covered", "SNR (dB)", "time" if timed else "")]
        for row in self.rows:
            snr = "" if row.snr is None else f"{row.snr:.1f}"
            share = "" if row.share is None else f"{100 * row.share:.1f} %"
            texts.append((row.layer, row.precision, _range(row.seen), _range(row.covered), snr, share))
        return "\n".join(aligned(texts, "<<<<>>"))

    def plot(self, ax: Any = None) -> Any:
        """Draw each layer's signal to noise as bars, and return the Axes; needs Matplotlib."""
        from cnnlib.plots._drawing import BLUE, ORANGE, new_axes

        ax = new_axes(ax)
        rows = [row for row in self.rows if row.snr is not None and np.isfinite(row.snr)]
        colors = [BLUE if row.precision == "int8" else ORANGE for row in rows]
        ax.barh(range(len(rows)), [row.snr for row in rows], color=colors)
        ax.set_yticks(range(len(rows)), [row.layer for row in rows])
        ax.invert_yaxis()
        ax.set_xlabel("signal to noise (dB)")
        return ax


def _range(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3g} to {bounds[1]:.3g}"


def row_of(row: Mapping[str, Any]) -> Row:
    """A row of a quantization's table."""
    made = Row(**row)
    texts = isinstance(made.layer, str) and made.precision in ("int8", "float32")
    if not texts or not all(bounds is None or _is_range(bounds) for bounds in (made.seen, made.covered)):
        raise ValueError(f"a layer is described by {dict(row)!r}")
    if made.snr is not None and type(made.snr) not in (int, float):
        raise ValueError(f"a layer has the signal to noise {made.snr!r}")
    bounds: dict[str, Any] = {name: tuple(row[name]) for name in ("seen", "covered") if row[name] is not None}
    return replace(made, share=None, **bounds)


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple)) and len(value) == 2 and all(type(n) in (int, float) for n in value)
    )

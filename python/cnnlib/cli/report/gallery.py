"""Images on a run's page: each with what the model saw in it, and the name of its file where it has one."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib.cli.report.html_page import escape
from cnnlib.data.image_files import open_image
from cnnlib.plots import image_grid, softmax

_SIDE = 180  # pixels of the longer side of a photograph on the page


def in_a_gallery(figures: str) -> str:
    """Figures side by side, as many as the page is wide."""
    return f'<div class="gallery">{figures}</div>'


@dataclass(frozen=True)
class Gallery:
    """The images of a split, with their labels and what a model made of them.

    Attributes
    ----------
    X : array (N, C, H, W)
    y : array (N,)
    scores : array (N, K)
    classes : sequence of str
    files : sequence of path or None
        The image files, so that photographs can be shown larger than the model sees them.
    """

    X: Any
    y: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]
    files: Sequence[Path] | None = None

    def mistakes(self, count: int) -> np.ndarray:
        """Wrong images, those first of which the model was surest."""
        _, seen, sureness = self._seen()
        wrong = np.flatnonzero(seen != self.y)
        return wrong[np.argsort(-sureness[wrong], kind="stable")][:count]

    def near_misses(self, count: int) -> np.ndarray:
        """Right images, those first whose second class was nearly as likely."""
        p, seen, sureness = self._seen()
        right = np.flatnonzero(seen == self.y)
        second = np.sort(p[right], axis=1)[:, -2] if p.shape[1] > 1 else np.zeros(len(right))
        return right[np.argsort(sureness[right] - second, kind="stable")][:count]

    def typical(self, label: int, count: int) -> np.ndarray:
        """Right images of a class, those first of which the model was surest."""
        _, seen, sureness = self._seen()
        rows = np.flatnonzero((self.y == label) & (seen == label))
        return rows[np.argsort(-sureness[rows], kind="stable")][:count]

    def html(self, rows: Sequence[int] | np.ndarray) -> str:
        """The images of these rows, with captions."""
        return in_a_gallery(self.figures(rows))

    def figures(self, rows: Sequence[int] | np.ndarray) -> str:
        """The same, to be put into a gallery."""
        return "".join(self._figure(int(row)) for row in rows)

    def _seen(self):
        """Probabilities (N, K), the likeliest class of each image, and its probability."""
        p = softmax(self.scores)
        seen = p.argmax(axis=1)
        return p, seen, p[np.arange(len(p)), seen]

    def _figure(self, row):
        p = softmax(self.scores[row : row + 1])[0]
        order = np.argsort(-p, kind="stable")[:2]
        lines = [f"{self.classes[k]}: {100 * p[k]:.0f} %" for k in order]
        if order[0] != self.y[row]:
            lines.append(f"true: {self.classes[self.y[row]]}")
        if self.files is not None:
            lines.append(self.files[row].name)
        kind, style, data = self._picture(row)
        source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
        text = "<br>".join(map(escape, lines))
        alt = escape(f"image {row}: {', '.join(lines)}")
        return f'<figure><img{style} alt="{alt}" src="{source}"><figcaption>{text}</figcaption></figure>'

    def _picture(self, row):
        """Kind, style and bytes: of the file, reduced; else of the pixels, enlarged by the browser."""
        from PIL import Image

        file = io.BytesIO()
        if self.files is not None:
            image = open_image(self.files[row], draft=2 * _SIDE).convert("RGB")
            image.thumbnail((_SIDE, _SIDE))
            image.save(file, "JPEG", quality=80)
            return "jpeg", "", file.getvalue()
        pixels = image_grid(self.X[row : row + 1], padding=0, layout="NCHW")
        Image.fromarray(np.uint8(255 * pixels + 0.5)).save(file, "PNG")
        return "png", ' class="pixels"', file.getvalue()

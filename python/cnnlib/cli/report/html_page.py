"""Pages of HTML that need nothing beside them: style and pictures stand in them, all text is escaped."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from cnnlib._system.text import printable
from cnnlib.cli.output import at_its_cost
from cnnlib.data.image_files import open_image
from cnnlib.layers import softmax
from cnnlib.plots import image_grid

_PHONE = 46  # characters of a line that a phone shows


def parts_of(makers, *about):
    """Call the `makers`, by what they make; return the parts that are not empty. An error costs one part."""
    parts = []
    for what, make in makers.items():
        with at_its_cost(f"{what} in the report"):
            parts.append(make(*about))
    return [part for part in parts if part]


def page(title, parts):
    """The whole document, of parts that the other functions here make."""
    document = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return Template(document).substitute(title=escape(title), parts="\n".join(parts))


def section(title, *parts):
    """Parts below a heading."""
    return "\n".join(["<section>", f"<h2>{escape(title)}</h2>", *parts, "</section>"])


def heading(text):
    """A heading below that of a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text):
    """A line of text."""
    return f"<p>{escape(text)}</p>"


def preformatted(text):
    """Text in columns, as it stands."""
    longest = max(map(len, text.split("\n")))
    return f'<div class="{"wide many" if longest > _PHONE else "wide"}"><pre>{escape(text)}</pre></div>'


def key_figures(pairs):
    """Key figures: names with short values, side by side."""
    items = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f"<dl>{''.join(items)}</dl>"


def table(columns, rows):
    """A table. Columns are pairs of a title and a kind: 'text', 'number' (texts too, on the right), or 'bar'.

    A bar shows a share in 0..1 as its length.
    """
    kinds = [kind for _, kind in columns]
    rows = list(rows)
    wide = "wide many" if _least_width(columns, rows) > _PHONE else "wide"
    head = "".join(f"<th{_class(kind)}>{escape(title)}</th>" for title, kind in columns)
    body = (f"<tr>{''.join(map(_cell, row, kinds))}</tr>" for row in rows)
    return "\n".join([f'<div class="{wide}"><table>', f"<tr>{head}</tr>", *body, "</table></div>"])


def folded(summary, part):
    """A part that is seen when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>\n{part}\n</details>"


def folded_section(title, *parts):
    """Parts that are seen when their heading is clicked."""
    return f"<section>{folded(title, chr(10).join(part for part in parts if part))}</section>"


def picture(data, description, form):
    """A picture, the bytes of an 'svg' or 'png' file, with its description for who cannot see it."""
    source = data_url("svg+xml" if form == "svg" else form, data)
    return f'<img alt="{escape(description)}" src="{source}">'


def data_url(kind, data):
    """The bytes of an image as what a page takes for its address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def thumbnail(file, side, quality):
    """An image file reduced to this longer side, as the bytes of a JPEG."""
    image, stored = open_image(file, draft=2 * side).convert("RGB"), io.BytesIO()
    image.thumbnail((side, side))
    image.save(stored, "JPEG", quality=quality)
    return stored.getvalue()


def side_by_side(*parts):
    """Parts beside each other, or on a narrow screen below."""
    cells = (f"<div>{part}</div>" for part in parts)
    return f'<div class="side-by-side">{"".join(cells)}</div>'


def escape(text):
    """`text` as HTML shows it; characters that are none of HTML's, or not to be seen, are escaped."""
    return html.escape("\n".join(map(printable, text.split("\n"))))


def _least_width(columns, rows):
    """The characters of a table's line, where texts are broken between words."""
    width = 0
    for k, (title, kind) in enumerate(columns):
        cells = [title, *(row[k] for row in rows if kind != "bar")]
        words = cells if kind == "number" else [word for cell in cells for word in cell.split()]
        width += 2 + max(map(len, words), default=0) + 8 * (kind == "bar")
    return width


def _class(kind):
    return "" if kind == "text" else f' class="{kind}"'


def _cell(value, kind):
    if kind == "bar":
        return f'<td class="bar"><i style="width: {100 * min(max(value, 0), 1):.1f}%"></i></td>'
    return f"<td{_class(kind)}>{escape(value)}</td>"


_SIDE = 180  # pixels of the longer side of a photograph on the page


def in_a_gallery(figures: str) -> str:
    """Figures side by side, as many as the page is wide."""
    return f'<div class="gallery">{figures}</div>'


@dataclass(frozen=True)
class Gallery:
    """The images X (N, C, H, W) of a split, with their labels y (N,) and a model's scores (N, K).

    `files` are the image files, if there are any, so that photographs can be shown larger than the model sees
    them.
    """

    X: Any
    y: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]
    files: Sequence[Path] | None = None

    def mistakes(self, count: int) -> np.ndarray:
        """Wrong images, those first of which the model was surest."""
        _, seen, sureness = self._seen
        wrong = np.flatnonzero(seen != self.y)
        return wrong[np.argsort(-sureness[wrong], kind="stable")][:count]

    def near_misses(self, count: int) -> np.ndarray:
        """Right images, those first whose second class was nearly as likely."""
        p, seen, sureness = self._seen
        right = np.flatnonzero(seen == self.y)
        second = np.sort(p[right], axis=1)[:, -2] if p.shape[1] > 1 else np.zeros(len(right))
        return right[np.argsort(sureness[right] - second, kind="stable")][:count]

    def typical(self, label: int, count: int) -> np.ndarray:
        """Right images of a class, those first of which the model was surest."""
        _, seen, sureness = self._seen
        rows = np.flatnonzero((self.y == label) & (seen == label))
        return rows[np.argsort(-sureness[rows], kind="stable")][:count]

    def html(self, rows: Sequence[int] | np.ndarray) -> str:
        """The images of these rows, with captions."""
        return in_a_gallery(self.figures(rows))

    def figures(self, rows: Sequence[int] | np.ndarray) -> str:
        """The images of these rows, to be put into a gallery."""
        return "".join(map(self._figure, rows))

    @functools.cached_property
    def _seen(self):
        """Probabilities (N, K), the likeliest class of each image, and its probability."""
        p = softmax(np.asarray(self.scores, np.float64))
        seen = p.argmax(axis=1)
        return p, seen, p[np.arange(len(p)), seen]

    def _figure(self, row):
        p = self._seen[0][row]
        order = np.argsort(-p, kind="stable")[:2]
        lines = [f"{self.classes[k]}: {100 * p[k]:.0f} %" for k in order]
        if order[0] != self.y[row]:
            lines.append(f"true: {self.classes[self.y[row]]}")
        if self.files is not None:
            lines.append(self.files[row].name)
        kind, style, data = self._picture(row)
        source = data_url(kind, data)
        text = "<br>".join(map(escape, lines))
        alt = escape(f"image {row}: {', '.join(lines)}")
        return f'<figure><img{style} alt="{alt}" src="{source}"><figcaption>{text}</figcaption></figure>'

    def _picture(self, row):
        """Kind, style and bytes: of the file, reduced; else of the pixels, enlarged by the browser."""
        from PIL import Image

        if self.files is not None:
            return "jpeg", "", thumbnail(self.files[row], _SIDE, quality=80)
        file = io.BytesIO()
        pixels = image_grid(self.X[row : row + 1], padding=0, layout="NCHW")
        Image.fromarray(np.uint8(255 * pixels + 0.5)).save(file, "PNG")
        return "png", ' class="pixels"', file.getvalue()

"""Objects drawn into their image; that is Pillow's work (``pip install cnnlib[images]``)."""

from __future__ import annotations

import colorsys
import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._system.packages import required
from cnnlib._system.text import printable
from cnnlib._typing import Array
from cnnlib.detection.letterboxing import check_image
from cnnlib.detection.objects import Detections

_OPACITY = 0.5  # of a mask, so that the photo shows through it
# Sizes are shares of the image's longer side, so that a picture looks alike at any size, and at least pixels
# that can be seen and read.
_LINE, _LEAST_LINE = 1 / 300, 1  # width of a line
_TEXT, _LEAST_TEXT = 1 / 40, 10  # height of a text
_POINT, _LEAST_POINT = 1 / 150, 2  # radius of a key point
_BORDER = 2  # pixels around a text
_GOLDEN = (
    5**0.5 - 1
) / 2  # of the circle of hues from class to class: no two classes near each other are alike
_SATURATION, _VALUE = 0.75, 0.95  # strong colours, which stand out from most photos
_BRIGHT = 0.55  # luminance of a colour above which black text can be read on it, and white below
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722]) / 255  # of red, green and blue (ITU-R BT.709)
_VISIBLE = 0.5  # visibility of a key point from which on it is likelier seen than not
_COCO_POINTS = 17  # key points of a person in the COCO data set
_BONES = (  # pairs of these points that lines join, as the data set's `skeleton` has them, from 0 on
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12)),  # legs and hips
    *((5, 11), (6, 12), (5, 6)),  # trunk
    *((5, 7), (6, 8), (7, 9), (8, 10)),  # arms
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),  # head
)


def draw(image: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
    """
    Draw the objects into an image: masks, boxes, key points, names of classes and scores.

    Parameters
    ----------
    image : array of uint8, (3, H, W) or (1, H, W)
        What the objects were found in.
    found : Detections

    Returns
    -------
    array of uint8, (3, H, W)
        A new image. The surest object lies on top. A key point is left out where its visibility is below
        1/2; the 17 points of people in the COCO data set are joined by lines. Pillow's own font has the
        letters of ASCII alone: names lose their accents, and other letters stand there as their codes.

    Raises
    ------
    ValueError
        For an image of another size than `found` has.
    TypeError
        For an image of another type.
    ImportError
        Without Pillow, the extra `images`.

    Examples
    --------
    >>> from cnnlib.detection import Detections
    >>> box = np.array([[10.0, 20.0, 60.0, 50.0]])
    >>> found = Detections(box, np.array([0.9]), np.array([0]), ("cat",), (64, 80))
    >>> picture = draw(np.zeros((3, 64, 80), np.uint8), found)
    >>> picture.shape, picture[:, 50, 30] > 0
    ((3, 64, 80), array([ True,  True,  True]))
    """
    required("PIL", "cnnlib.detection.draw", "Pillow", "images")
    from PIL import Image, ImageDraw, ImageFont

    check_image("draw", "image", image)
    if len(image) not in (1, 3) or image.shape[1:] != tuple(found.size):
        H, W = found.size
        raise ValueError(f"draw: image must be (3, {H}, {W}) or (1, {H}, {W}), got shape {image.shape}")
    pixels = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0).copy()
    order = range(len(found) - 1, -1, -1)
    colours = [_colour(k) for k in found.classes.tolist()]
    if found.mask_parts is not None:
        for k in order:
            _cover(pixels, found.mask_parts[k], colours[k])
    picture = Image.fromarray(pixels)
    canvas, longer = ImageDraw.Draw(picture), max(found.size)
    width = max(_LEAST_LINE, round(longer * _LINE))
    font = ImageFont.load_default(max(_LEAST_TEXT, round(longer * _TEXT)))
    for k in order:
        x1, y1, x2, y2 = found.boxes[k].tolist()
        canvas.rectangle((x1, y1, x2, y2), outline=colours[k], width=width)
        if found.keypoints is not None:
            _draw_points(canvas, found.keypoints[k], colours[k], width, longer)
        text = _in_ascii(f"{found.names[found.classes[k]]} {found.scores[k]:.2f}")
        _label(canvas, (x1, y1), text, font, colours[k], found.size)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _colour(label: int) -> tuple[int, int, int]:
    """The colour of a class."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, _SATURATION, _VALUE)
    return round(255 * red), round(255 * green), round(255 * blue)


def _cover(pixels: NDArray[np.uint8], part: Any, colour: tuple[int, int, int]) -> None:
    """Lay a mask over the pixels (H, W, 3), in place."""
    h, w = part.inside.shape
    there = pixels[part.top : part.top + h, part.left : part.left + w]
    there[part.inside] = np.floor((1 - _OPACITY) * there[part.inside] + _OPACITY * np.array(colour) + 0.5)


def _draw_points(canvas: Any, points: Array, colour: Any, width: int, longer: int) -> None:
    """Draw the key points (P, 2 or 3) of an object."""
    places = [(x, y) for x, y, *_ in points.tolist()]
    seen = [bool(np.isfinite(point).all() and (point[2:] >= _VISIBLE).all()) for point in points]
    for a, b in _BONES if len(places) == _COCO_POINTS else ():
        if seen[a] and seen[b]:
            canvas.line((*places[a], *places[b]), fill=colour, width=width)
    radius = max(_LEAST_POINT, longer * _POINT)
    for k in np.flatnonzero(seen):
        x, y = places[k]
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white")


def _in_ascii(text: str) -> str:
    """A text in the letters of ASCII: without accents, and with the codes of other letters."""
    parts = unicodedata.normalize("NFKD", printable(text))
    plain = "".join(c for c in parts if not unicodedata.combining(c))
    return plain.encode("ascii", "backslashreplace").decode()


def _label(canvas: Any, corner: tuple[float, float], text: str, font: Any, colour: Any, size: Any) -> None:
    """Write a text on a ground of a colour, above a box; inside it where there is no room above."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    wide, high = right - left + 2 * _BORDER, bottom - top + 2 * _BORDER
    x = min(max(corner[0], 0), max(size[1] - wide, 0))
    y = corner[1] - high if corner[1] >= high else min(corner[1], max(size[0] - high, 0))
    canvas.rectangle((x, y, x + wide, y + high), fill=colour)
    ink = "black" if np.array(colour) @ _LUMINANCE > _BRIGHT else "white"
    canvas.text((x + _BORDER - left, y + _BORDER - top), text, fill=ink, font=font)

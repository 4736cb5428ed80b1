"""Images of any shape in a frame of one size."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import is_sequence, positive_int, type_name
from cnnlib._typing import Array
from cnnlib.detection.sampling import bilinear

FILL = 114  # the grey of the frame with which Ultralytics trains its networks
_EVEN = 0.1  # pixels, so that an odd one of the frame goes below and right


class Placement(NamedTuple):
    """
    Place of an image in its frame.

    Attributes
    ----------
    image : (int, int)
        Height and width of the image before.
    frame : (int, int)
        Height and width of the frame.
    inner : (int, int)
        Height and width of the image in the frame.
    top, left : int
        The image's first row and column in the frame.

    Examples
    --------
    >>> placement = letterbox(np.zeros((3, 480, 640), np.uint8), (320, 320))[1]
    >>> placement
    Placement(image=(480, 640), frame=(320, 320), inner=(240, 320), top=40, left=0)
    >>> placement.in_image(np.array([[160.0, 40.0]]))
    array([[320.,   0.]])
    """

    image: tuple[int, int]
    frame: tuple[int, int]
    inner: tuple[int, int]
    top: int
    left: int

    def in_image(self, points: Array) -> Array:
        """Map points (..., 2), x and y in the frame's pixels, to the pixels of the image before."""
        (H, W), (h, w) = self.image, self.inner
        return (points - np.array([self.left, self.top])) * np.array([W / w, H / h])


def letterbox(image: NDArray[np.uint8], size: tuple[int, int]) -> tuple[NDArray[np.uint8], Placement]:
    """
    Bring an image to a size, with its proportions kept and a grey frame around it.

    The image is scaled by ``min(OH / H, OW / W)`` and put into the middle; an odd pixel of the frame goes
    below and right. Row i of the h scaled ones lies at ``(i + 1/2) * H / h - 1/2``, columns alike, and is
    interpolated linearly between the two nearest, as networks of the YOLO family are trained with.

    Parameters
    ----------
    image : array of uint8, (C, H, W)
    size : (OH, OW)

    Returns
    -------
    framed : array of uint8, (C, OH, OW)
        The frame is 114.
    placement : Placement

    Raises
    ------
    TypeError
        For an image that is no array of uint8.
    ValueError
        For another shape, an image without pixels, or a size below 1.

    Examples
    --------
    >>> framed, placement = letterbox(np.full((1, 2, 4), 200, np.uint8), (4, 4))
    >>> framed[0]
    array([[114, 114, 114, 114],
           [200, 200, 200, 200],
           [200, 200, 200, 200],
           [114, 114, 114, 114]], dtype=uint8)
    """
    check_image("letterbox", "image", image)
    if not is_sequence(size) or len(size) != 2:
        raise ValueError(f"letterbox: size must be (height, width), got {size!r}")
    frame = positive_int("letterbox", "size", size[0]), positive_int("letterbox", "size", size[1])
    C, H, W = image.shape
    scale = min(frame[0] / H, frame[1] / W)
    h, w = max(1, round(H * scale)), max(1, round(W * scale))
    top, left = (round((outer - inner) / 2 - _EVEN) for outer, inner in zip(frame, (h, w)))
    rows, columns = ((np.arange(n) + 0.5) * (N / n) - 0.5 for n, N in ((h, H), (w, W)))
    framed = np.full((C, *frame), FILL, np.uint8)
    for plane, target in zip(image, framed):
        target[top : top + h, left : left + w] = np.floor(bilinear(plane, rows, columns) + 0.5)
    return framed, Placement((H, W), frame, (h, w), top, left)


def check_image(where: str, name: str, image: Any) -> None:
    """Refuse what is no image (C, H, W) of bytes with at least a pixel."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        found = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else type_name(image)
        raise TypeError(f"{where}: {name} must be an array of uint8, pixels from 0 to 255, got {found}")
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"{where}: {name} must be (C, H, W), got shape {image.shape}")

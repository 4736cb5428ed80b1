"""Objects in images, by a network of the YOLO family."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import number, positive_int, type_name
from cnnlib._system.packages import required
from cnnlib._typing import Array
from cnnlib.data.image_files import open_image
from cnnlib.data.normalization import Normalization, preprocessed
from cnnlib.detection.decoding import CORNERS, ROW, SCORE, decode
from cnnlib.detection.head import DetectionHead, checked_head
from cnnlib.detection.letterboxing import Placement, check_image, letterbox
from cnnlib.detection.masks import MaskParts
from cnnlib.detection.objects import Detections
from cnnlib.detection.suppression import MOST, OVERLAP, non_max_suppression

Photo: TypeAlias = "str | os.PathLike[str] | NDArray[np.uint8]"
_BATCH_VALUES = 2**22  # of images that go through a network together
_UNIT = Normalization(0.0, 255.0)  # what the networks of this family take: values in [0, 1]


class Raw(NamedTuple):
    """Outputs of one image: of the boxes, (4 + classes + E, A) or (A, 6 + E), and the masks' (E, h, w)."""

    boxes: Array
    prototypes: Array | None
    end_to_end: bool


class Detector:
    """
    A network with all that leads from an image to objects.

    Parameters
    ----------
    net : model, Predictor or function
        As in :func:`cnnlib.detect`.
    head : DetectionHead or None
        None: the network's own `detection`.
    score, overlap, most
        As in :func:`cnnlib.detect`.

    Attributes
    ----------
    head : DetectionHead
    channels : int
        Of the network's images.
    size : (int, int)
        Height and width of the network's images.

    Raises
    ------
    ValueError
        For a network without a head, or whose images have no known size; for numbers out of range.
    TypeError
        For what is no function, and a head that is none.

    Examples
    --------
    >>> net = lambda images: np.zeros((len(images), 5, 21), np.float32)
    >>> detector = Detector(net, head=DetectionHead(["cat"], size=(32, 64)))
    >>> framed, placement = detector.framed(np.zeros((3, 100, 100), np.uint8))
    >>> framed.shape, placement.left
    ((3, 32, 64), 16)
    >>> (raw,) = detector.outputs(framed[None])
    >>> detector.objects(raw, placement)
    <Detections none>
    """

    def __init__(
        self,
        net: Callable[[Any], Any],
        *,
        head: DetectionHead | None = None,
        score: float = SCORE,
        overlap: float = OVERLAP,
        most: int = MOST,
    ) -> None:
        where = "detect"
        if not callable(net):
            raise TypeError(f"{where}: the network must be callable, got {type_name(net)}")
        own = checked_head(where, getattr(net, "detection", None) if head is None else head)
        if own is None:
            raise ValueError(
                f"{where}: nothing says what the network's outputs mean, as the metadata of an export by "
                "Ultralytics would; give head=cnnlib.detection.DetectionHead(classes)"
            )
        self.net, self.head = net, own
        self.score, self.overlap = (
            number(where, "score", score, 0, 1),
            number(where, "overlap", overlap, 0, 1),
        )
        self.most = positive_int(where, "most", most)
        shape = getattr(net, "input_dim", None)
        if shape is None:
            if own.size is None:
                raise ValueError(f"{where}: the size of the network's images is not known: give head.size")
            shape = (3, *own.size)
        if np.ndim(shape) != 1 or len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"{where}: the network takes samples of shape {shape}, not images (C, H, W)")
        self.channels, self.size = int(shape[0]), (int(shape[1]), int(shape[2]))

    def read(self, file: Any, most_pixels: int | None = None) -> NDArray[np.uint8]:
        """Read all pixels of an image file, (C, H, W); errors are those of
        :func:`cnnlib.data.image_files.open_image`.
        """
        image = open_image(file, most_pixels=most_pixels).convert("RGB" if self.channels == 3 else "L")
        pixels = np.asarray(image).reshape(image.height, image.width, self.channels)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def framed(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        """Bring an image (C, H, W) to the network's size by :func:`letterbox`."""
        check_image("detect", "an image", image)
        if len(image) != self.channels:
            advice = (
                "; (H, W, C) becomes that by .transpose(2, 0, 1)" if image.shape[2] == self.channels else ""
            )
            raise ValueError(
                f"detect: an image must be ({self.channels}, H, W), got shape {image.shape}{advice}"
            )
        return letterbox(image, self.size)

    def outputs(self, images: NDArray[np.uint8]) -> list[Raw]:
        """Compute the network's outputs for framed images (N, C, H, W), some at a time; one Raw for each."""
        step = self._together()
        parts = (images[start : start + step] for start in range(0, len(images), step))
        return [raw for part in parts for raw in self._outputs(part)]

    def _together(self) -> int:
        """Return how many images go through the network together."""
        return max(1, _BATCH_VALUES // (self.channels * self.size[0] * self.size[1]))

    def _outputs(self, images: NDArray[np.uint8]) -> list[Raw]:
        preprocess = getattr(self.net, "preprocess", None)
        given = self.net(preprocessed(_UNIT if preprocess is None else preprocess, images))
        boxes, prototypes, end_to_end = self._sorted(_arrays(given), len(images))
        planes = [None] * len(boxes) if prototypes is None else prototypes
        return [Raw(rows, plane, end_to_end) for rows, plane in zip(boxes, planes, strict=True)]

    def objects(self, raw: Raw, placement: Placement) -> Detections:
        """Read the objects of an image from the network's output; `placement` says where it lay."""
        names = self.head.classes
        found = decode(raw.boxes, len(names), score=self.score, end_to_end=raw.end_to_end)
        if raw.end_to_end:
            kept: Any = np.argsort(-found.scores, kind="stable")[: self.most]
        else:
            given = found.boxes, found.scores, found.classes
            kept = non_max_suppression(*given, overlap=self.overlap, most=self.most)
        boxes, scores, classes, extras = (part[kept] for part in found)
        H, W = placement.image
        corners = placement.in_image(boxes.reshape(-1, 2, 2))
        boxes = np.clip(corners, 0, (W, H)).reshape(-1, 4).astype(boxes.dtype)
        keypoints = parts = None
        if self.head.keypoints is not None:
            keypoints = extras.reshape(len(extras), *self.head.keypoints)
            seen = placement.in_image(keypoints[..., :2]).astype(keypoints.dtype)
            keypoints = np.concatenate([seen, keypoints[..., 2:]], axis=2)
        if raw.prototypes is not None:
            parts = MaskParts(extras, raw.prototypes, boxes, placement)
        return Detections(boxes, scores, classes, names, (H, W), keypoints, parts)

    def found(self, images: Iterable[Photo]) -> list[Detections]:
        """The objects of each image, some images at a time."""
        return [
            self.objects(raw, placement)
            for batch, placements in self._batches(images)
            for raw, placement in zip(self.outputs(batch), placements, strict=True)
        ]

    def _batches(self, images: Iterable[Photo]) -> Iterator[tuple[NDArray[np.uint8], list[Placement]]]:
        step = self._together()
        batch: list[tuple[NDArray[np.uint8], Placement]] = []
        for image in images:
            batch.append(self.framed(self.read(image) if isinstance(image, (str, os.PathLike)) else image))
            if len(batch) == step:
                yield np.stack([framed for framed, _ in batch]), [placement for _, placement in batch]
                batch = []
        if batch:
            yield np.stack([framed for framed, _ in batch]), [placement for _, placement in batch]

    def _sorted(self, arrays: list[Array], count: int) -> tuple[Array, Array | None, bool]:
        """Return the boxes' array, the prototypes, and whether the network has suppressed by itself."""
        head, masks = self.head, self.head.task == "segment"
        shapes = ", ".join(str(array.shape) for array in arrays) or "none"
        fits = len(arrays) == 1 + masks and arrays[0].ndim in (3, 4) and (not masks or arrays[1].ndim == 4)
        if not fits or any(len(array) != count for array in arrays):
            wanted = "an array of boxes" + masks * " and one of prototypes (N, E, h, w)"
            raise ValueError(
                f"detect: of {count} images a network of the task {head.task!r} gives {wanted}, got {shapes}"
            )
        boxes, prototypes = arrays[0], arrays[1] if masks else None
        extras = 0 if prototypes is None else prototypes.shape[1]
        if head.keypoints is not None:
            extras = head.keypoints[0] * head.keypoints[1]
        column, row = CORNERS + len(head.classes) + extras, ROW + extras
        if boxes.shape[1] == column:
            return boxes.reshape(count, column, math.prod(boxes.shape[2:])), prototypes, False
        if boxes.ndim == 3 and boxes.shape[2] == row:
            return boxes, prototypes, True
        raise ValueError(
            f"detect: the boxes of {len(head.classes)} classes and {extras} further numbers must be "
            f"(N, {column}, A), (N, {column}, h, w) or (N, A, {row}), got {shapes}"
        )


def _arrays(given: Any) -> list[Array]:
    """A network's results."""
    if isinstance(given, Mapping):
        given = list(given.values())
    return [np.asarray(each) for each in (given if isinstance(given, (list, tuple)) else [given])]


def detect(
    net: Callable[[Any], Any],
    images: Photo | Sequence[Photo] | NDArray[np.uint8],
    *,
    score: float = SCORE,
    overlap: float = OVERLAP,
    most: int = MOST,
    head: DetectionHead | None = None,
) -> list[Detections]:
    """
    Find the objects in images.

    An image is scaled, with its proportions kept and a grey frame around it, to the size of the network
    (:func:`cnnlib.detection.letterbox`). Of what the network gives, boxes with high scores are read
    (:func:`cnnlib.detection.decode`), and one is kept for each object
    (:func:`cnnlib.detection.non_max_suppression`), unless the network does that itself.

    Parameters
    ----------
    net : model, Predictor or function
        A network of the YOLO family, v8 and later: :func:`cnnlib.onnx.load` reads what its outputs mean from
        files that Ultralytics exported. Or any function of images (N, C, H, W) from 0 to 1, that may have the
        attributes `detection`, `input_dim` and `preprocess`, as cnnlib's networks have. The result is an
        array, or several in a sequence or dict: boxes (N, 4 + classes + E, A), of A places or a grid (h, w)
        of them, or (N, A, 6 + E) of a network that suppresses by itself; behind them, for masks, prototypes
        (N, E, h, w).
    images : path, array of uint8 (C, H, W), or several
        A sequence of paths and arrays, of any sizes, or an array (N, C, H, W). Colours are red, green, blue.
    score : float in [0, 1]
        An object is shown where its score is above this.
    overlap : float in [0, 1]
        Of two boxes of one class that overlap more, the one with the higher score stays: the area that both
        share, divided by the area that they cover together.
    most : int
        The largest number of objects in an image.
    head : DetectionHead or None
        What the outputs mean; None: the network's own `detection`.

    Returns
    -------
    list of Detections
        One of each image: `boxes`, `scores`, `classes`, and `masks` or `keypoints` where the network has
        them.

    Raises
    ------
    ValueError
        For a network whose outputs are not those that its head says, or that has none; images of other
        shapes; files that are no images; numbers out of range.
    TypeError
        For arrays of another type than uint8.
    FileNotFoundError
        Where there is no such file.
    ImportError
        For paths without Pillow, the extra `images`.

    Examples
    --------
    A network that finds a box of class 1 in the middle of each image, of 64x64 pixels:

    >>> import cnnlib
    >>> def net(images):
    ...     return np.tile([[[32.0], [32.0], [16.0], [8.0], [0.1], [0.75]]], (len(images), 1, 1))
    >>> head = cnnlib.detection.DetectionHead(["cat", "dog"], size=(64, 64))
    >>> photo = np.zeros((3, 128, 256), np.uint8)
    >>> (found,) = cnnlib.detect(net, photo, head=head)
    >>> found
    <Detections 1 dog>
    >>> found.boxes, found.scores
    (array([[ 96.,  48., 160.,  80.]]), array([0.75]))
    """
    detector = Detector(net, head=head, score=score, overlap=overlap, most=most)
    return detector.found(_photos(images))


def _photos(images: Any) -> Iterable[Photo]:
    """The images, one by one."""
    if isinstance(images, (str, os.PathLike)) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ValueError(f"detect: images must be (C, H, W) or (N, C, H, W), got shape {images.shape}")
    if not isinstance(images, (list, tuple, np.ndarray)):
        raise TypeError(f"detect: images must be paths or arrays, got {type_name(images)}")
    if any(isinstance(image, (str, os.PathLike)) for image in images):
        required("PIL", "cnnlib.detect", "Pillow", "images")
    return iter(images)

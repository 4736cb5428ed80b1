"""Objects in an image: what detection returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._typing import Array
from cnnlib.detection.masks import MaskPart


@dataclass(frozen=True, eq=False)
class Detections:
    """
    Objects that a network found in an image, the surest first.

    Attributes
    ----------
    boxes : array, (K, 4)
        x1, y1, x2, y2 in pixels of the image: the left, upper, right and lower edge.
    scores : array, (K,)
        How sure the network is, from 0 to 1.
    classes : array of int, (K,)
    names : tuple of str
        Of all classes.
    size : (int, int)
        Height and width of the image.
    keypoints : array (K, P, 2 or 3), or None
        x, y in pixels of the image, and how visible the point is, where the network says it.
    mask_parts : sequence of MaskPart, or None
        The masks, each as far as its box reaches, and computed when it is asked for.

    Examples
    --------
    >>> found = Detections(
    ...     np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([0.9]), np.array([1]), ("cat", "dog"), (10, 10)
    ... )
    >>> found
    <Detections 1 dog>
    >>> found.labels, len(found)
    (['dog'], 1)
    >>> found.described()
    [{'class': 'dog', 'score': 0.9, 'box': [1.0, 2.0, 3.0, 4.0]}]
    """

    boxes: Array
    scores: Array
    classes: NDArray[np.intp]
    names: tuple[str, ...]
    size: tuple[int, int]
    keypoints: Array | None = None
    mask_parts: Sequence[MaskPart] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(self.labels).items())
        return f"<Detections {counts or 'none'}>"

    @property
    def labels(self) -> list[str]:
        """The name of each object's class."""
        return [self.names[k] for k in self.classes]

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """The masks of all objects, (K, H, W); None of a network without masks."""
        if self.mask_parts is None:
            return None
        masks = np.zeros((len(self), *self.size), bool)
        for mask, part in zip(masks, self.mask_parts, strict=True):
            mask[:] = part.whole(self.size)
        return masks

    def described(self) -> list[dict[str, Any]]:
        """The objects as JSON has them: class, score, box, and where there are some, keypoints and a mask.

        A mask is a dict of the image's `size` (H, W) and `counts`, the uncompressed run lengths of COCO.
        """
        rows: list[dict[str, Any]] = [
            {"class": label, "score": score, "box": box}
            for label, score, box in zip(self.labels, self.scores.tolist(), self.boxes.tolist(), strict=True)
        ]
        if self.keypoints is not None:
            for row, points in zip(rows, self.keypoints.tolist(), strict=True):
                row["keypoints"] = points
        if self.mask_parts is not None:
            for row, part in zip(rows, self.mask_parts, strict=True):
                row["mask"] = {"size": list(self.size), "counts": part.run_lengths(self.size)}
        return rows

"""The way from an uploaded image to its part of an answer, for each task of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from cnnlib.cli.predict import json_objects, json_rows, likeliest, read_image
from cnnlib.cli.run.trained import Trained
from cnnlib.cli.server.batching import Rows
from cnnlib.detection import Detector

Read: TypeAlias = tuple[np.ndarray, Any]  # an image as the model takes it; what the answer needs beside it
Names: TypeAlias = Sequence[str | None]  # of uploaded files
Answer: TypeAlias = list[dict[str, Any]]  # what goes out as JSON, a dict for each image


class Classes:
    """Answers with the likeliest classes: `top` of them, where a request does not say how many.

    `predict` stands in for `trained.probabilities`.
    """

    def __init__(
        self, trained: Trained, top: int, predict: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> None:
        self._trained, self._top = trained, top
        self._predict = predict or trained.probabilities

    def read(self, file: Any, most_pixels: int) -> Read:
        """Read an image file of no more pixels than that."""
        return read_image(file, self._trained, most_pixels=most_pixels), None

    def predict(self, images: np.ndarray) -> Rows:
        """Compute probabilities of images (N, C, H, W)."""
        return self._predict(images)

    def answer(self, names: Names, rows: Sequence[Any], beside: Sequence[Any], top: int | None) -> Answer:
        """List the classes of images, of what `predict` made of them; `top` is what the request says."""
        best = likeliest(np.stack(rows), self._trained.classes, self._top if top is None else top)
        return json_rows(names, best)


class Objects:
    """Answers with the objects in each image."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def read(self, file: Any, most_pixels: int) -> Read:
        """Read an image file of no more pixels than that, into a frame of the network's size."""
        return self._detector.framed(self._detector.read(file, most_pixels))

    def predict(self, images: np.ndarray) -> Rows:
        """Compute the network's outputs for images (N, C, H, W)."""
        return self._detector.outputs(images)

    def answer(self, names: Names, rows: Sequence[Any], beside: Sequence[Any], top: int | None) -> Answer:
        """List the objects of images, of what `predict` made of them and where they lie in their frames."""
        found = map(self._detector.objects, rows, beside)
        return [json_objects(name, objects) for name, objects in zip(names, found, strict=True)]

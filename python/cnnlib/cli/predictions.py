"""``cnnlib predict`` beyond classes: numbers as CSV, labels and images of pixels as files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib.cli.output import json_text, say
from cnnlib.cli.report.samples import colours
from cnnlib.data.image_files import photo

_BATCH_VALUES = 2**22  # of images that are read together
_OPACITY = 0.5  # of a mask over its photo


def predict(trained: Any, paths: Sequence[str], out: str | None, as_json: bool) -> None:
    """Print numbers, or write an image for each, and a mask over the photo too, to the folder `out`."""
    if trained.task == "values":
        if out is not None:
            raise ValueError("--out means nothing to a model of numbers, which are printed")
        return _print_numbers(trained, paths, as_json)
    if as_json:
        raise ValueError("--json means nothing to a model of pixels, which writes images")
    folder = Path("predictions" if out is None else out)
    folder.mkdir(parents=True, exist_ok=True)
    names = [Path(path).stem for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two images are called {twice}: their predictions would have one name")
    count = 0
    for name, image, scores in zip(names, *_images_and_scores(trained, paths), strict=True):
        count += _write(folder, name, image, scores, trained.gives_labels)
    say(f"{count} files in {folder}", fold=False)
    return None


def _images_and_scores(trained, paths):
    C, H, W = trained.shape
    images = np.stack([photo(path, (H, W), C) for path in paths])
    step = max(1, _BATCH_VALUES // images[0].size)
    parts = [trained.scores(images[k : k + step], 255.0, trained.tta) for k in range(0, len(images), step)]
    return images, np.concatenate(parts)


def _print_numbers(trained, paths, as_json):
    _, scores = _images_and_scores(trained, paths)
    if as_json:
        rows = [dict(zip(trained.classes, row.tolist(), strict=True)) for row in scores]
        print(json_text([{"file": path, "values": row} for path, row in zip(paths, rows, strict=True)]))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", *trained.classes])
    writer.writerows(
        [path, *(f"{value:.6g}" for value in row)] for path, row in zip(paths, scores, strict=True)
    )


def _write(folder, name, image, scores, labels):
    """A mask and the photo below it, or an image of values in [0, 1]; returns how many files."""
    from PIL import Image

    if not labels:
        pixels = (255 * np.clip(scores, 0, 1) + 0.5).astype(np.uint8)
        if len(pixels) not in (1, 3):
            raise ValueError(f"an image has 1 or 3 channels, the model gives {len(pixels)}")
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(
            folder / f"{name}.png"
        )
        return 1
    mask = scores.argmax(axis=0).astype(np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette(colours(np.arange(256, dtype=np.uint8)[None])[0].tobytes())
    picture.save(folder / f"{name}.png")
    ground = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    over = np.where(mask[..., None] > 0, (1 - _OPACITY) * ground + _OPACITY * colours(mask), ground)
    Image.fromarray((over + 0.5).astype(np.uint8)).save(folder / f"{name}-over.png")
    return 2

"""Images with masks or with numbers: a folder of the user's own for tasks beyond classes."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib._params import choice, path_text
from cnnlib._params.random import random_stream
from cnnlib._system.packages import required
from cnnlib.data.array_files import CLASSES, LARGEST, class_names, read_text, refuse_alike
from cnnlib.data.image_cache import Source, cached_images
from cnnlib.data.image_files import find_images, pillow_image, upright_size
from cnnlib.data.image_folder import checked_options, places, splits

_WHERE = "load_target_folder"
IGNORED = 255  # a mask's value for pixels that have no label
_TOLERANCE = 0.02  # by which a mask's proportions may differ from its image's


def load_target_folder(
    root: str | os.PathLike,
    size: int | Sequence[int],
    task: str,
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    channels: int | None = None,
    verbose: bool = True,
) -> dict[str, Any]:
    """Read ``root/images/*`` with a mask or numbers for each image.

    Images are decoded, scaled and cached as by :func:`cnnlib.data.load_image_folder`.

    Parameters
    ----------
    root : path
        With `task` 'pixels' ``root/masks`` has a file for each image, of its name but for the suffix and of
        its proportions, best a PNG: grey, or with a palette. A pixel's value is its label, 255 that it has
        none; masks in black and white alone (0 and 255) have the labels 0 and 1, and a JPEG must be one.
        ``root/classes.txt`` may name the labels, a line each. With 'values' ``root`` has one CSV file: a
        column of file names below ``root/images``, then columns of numbers, with a heading. Masks and lines
        without an image are told in a warning.
    size : int or (int, int)
        Height and width that all images get; masks follow, each pixel from the nearest one.
    task : 'pixels' or 'values'
    validation, test, seed, channels, verbose
        As of :func:`cnnlib.data.load_image_folder`.

    Returns
    -------
    dict
        ``X_train``, ``X_val``, ``X_test``: uint8 memory maps (N, channels, H, W). ``y_train`` and so on:
        uint8 labels (N, H, W), or float32 numbers (N, M). ``classes``: names of the labels, or of the
        numbers. ``files_train`` and so on: the images' files.

    Raises
    ------
    ImportError
        Pillow or filelock is not installed.
    FileNotFoundError
        There is no folder of images or masks, or no CSV file.
    ValueError
        Images without masks or numbers (they are named), masks of other proportions than their images',
        numbers that float32 hardly tells apart, files that cannot be read, settings out of range.

    Examples
    --------
    >>> from PIL import Image
    >>> for k in range(10):
    ...     for kind in ("images", "masks"):
    ...         os.makedirs(f"spots/{kind}", exist_ok=True)
    ...         Image.new("L", (20, 20), 255 * (k % 2)).save(f"spots/{kind}/{k}.png")
    >>> data = load_target_folder("spots", 16, "pixels")
    >>> data["X_train"].shape, data["y_train"].shape, data["classes"]
    ((8, 1, 16, 16), (8, 16, 16), ('0', '1'))
    """
    required("PIL", _WHERE, "Pillow", "images")
    choice(_WHERE, "task", task, ("pixels", "values"))
    height, width, *shares = checked_options(_WHERE, size, validation, test, seed, channels)
    root = Path(path_text(_WHERE, "root", root))
    folder = root / "images"
    if not folder.is_dir():
        raise FileNotFoundError(f"{_WHERE}: {root} has no folder 'images'")
    files = find_images(folder, deep=True)
    if not files:
        raise ValueError(f"{_WHERE}: {folder} holds no images")
    if task == "pixels":
        targets, classes = _masks(root, folder, files, (height, width))
    else:
        targets, classes = _numbers(root, folder, files)
    labels = np.zeros(len(files), np.int64)
    place = places(labels, random_stream(seed, _WHERE))
    order = np.argsort(place)
    names = tuple(files[k].relative_to(folder) for k in order)
    X = cached_images(Source(folder, classes, names, labels, int(seed)), height, width, channels, verbose)
    paths = tuple(files[k] for k in order)
    return {**splits(_WHERE, X, targets[order], paths, place[order], *shares), "classes": classes}


def _masks(root, folder, files, size):
    """Labels (N, H, W) and their names."""
    if not (root / "masks").is_dir():
        raise FileNotFoundError(f"{_WHERE}: {root} has no folder 'masks'")
    found: dict[Path, Path] = {}
    for path in find_images(root / "masks", deep=True):
        other = found.setdefault(path.relative_to(root / "masks").with_suffix(""), path)
        if other != path:
            raise ValueError(f"{_WHERE}: {other} and {path} are masks of one image: which is meant?")
    stems = [path.relative_to(folder).with_suffix("") for path in files]
    _refuse_lacking("mask", [str(path) for path, stem in zip(files, stems, strict=True) if stem not in found])
    _tell_stray("masks", [str(found[stem]) for stem in found.keys() - set(stems)])
    masks = np.stack([_mask(found[stem], path, size) for path, stem in zip(files, stems, strict=True)])
    values = np.unique(masks)
    if set(values.tolist()) <= {0, IGNORED}:
        masks, highest = (masks == IGNORED).astype(np.uint8), 1
    else:
        highest = int(values[values != IGNORED].max())
    names = class_names(root, highest + 1)
    if len(names) <= highest:
        raise ValueError(f"{_WHERE}: {root / CLASSES} names {len(names)} labels, masks have {highest + 1}")
    return masks, names


def _mask(path, photo, size):
    from PIL import Image, ImageOps

    try:
        with open(path, "rb") as source, pillow_image(source) as opened:  # as open_image has it
            file = ImageOps.exif_transpose(opened)
            if file.mode not in ("1", "L", "P"):
                raise ValueError(f"a mask is grey or has a palette, got mode {file.mode}")
            W, H = upright_size(photo) or file.size
            if abs(file.width * H / (file.height * W) - 1) > _TOLERANCE:  # each is cropped to one shape
                raise ValueError(f"it has {file.width}x{file.height} pixels, its image {W}x{H}")
            pixels = np.asarray(file, np.uint8)
            if opened.format == "JPEG" and not np.isin(pixels, (0, IGNORED)).all():
                raise ValueError("a JPEG does not keep labels; a PNG does")
            image = Image.fromarray(255 * pixels if file.mode == "1" else pixels)
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"{path} cannot be read as a mask: {error}") from error
    H, W = size
    return np.asarray(ImageOps.fit(image, (W, H), Image.Resampling.NEAREST))


def _numbers(root, folder, files):
    """Numbers (N, M) and the names of their columns."""
    tables = sorted(root.glob("*.csv"))
    if len(tables) != 1:
        raise FileNotFoundError(f"{_WHERE}: {root} must hold one CSV file, got {len(tables)}")
    (_, heading), *rows = _lines(tables[0]) or [(1, [])]
    if len(heading) < 2:
        raise ValueError(f"{tables[0]}: expected a heading of a column of files and columns of numbers")
    if len(set(heading[1:])) < len(heading) - 1:
        raise ValueError(f"{tables[0]}: two columns have one name: {', '.join(map(repr, heading[1:]))}")
    numbers = {}
    for line, row in rows:
        try:
            values = [float(text) for text in row[1:]]
        except ValueError:
            values = []
        if len(values) != len(heading) - 1 or not all(abs(value) <= LARGEST for value in values):
            wanted = f"{len(heading) - 1} numbers of at most {LARGEST:.3g}"
            raise ValueError(f"{tables[0]}, line {line}: expected {wanted}, got {row[1:]}")
        if folder / row[0] in numbers:
            raise ValueError(f"{tables[0]}, line {line}: {row[0]} has a line before")
        numbers[folder / row[0]] = values
    _refuse_lacking(f"line in {tables[0]}", [str(path) for path in files if path not in numbers])
    _tell_stray(f"lines in {tables[0]}", [str(path) for path in numbers.keys() - set(files)])
    found = np.array([numbers[path] for path in files])
    refuse_alike(str(tables[0]), heading[1:], found)
    return found.astype(np.float32), tuple(heading[1:])


def _lines(table):
    """The number and the values of each line of a CSV file that is not empty."""
    reader = csv.reader(io.StringIO(read_text(table)))
    try:
        return [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{table} is no CSV file: {error}") from error


def _refuse_lacking(what, lacking):
    if lacking:
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise ValueError(f"{_WHERE}: no {what} for {', '.join(lacking[:5])}{more}")


def _tell_stray(what, stray):
    if stray:
        warnings.warn(f"{_WHERE}: {what} without an image: {len(stray)}, such as {min(stray)}", stacklevel=4)

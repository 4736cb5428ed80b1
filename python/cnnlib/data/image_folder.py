"""Images of the user's own: a folder with a folder of image files for each class."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib._params import choice, flag, integer, path_text, positive_int, probability
from cnnlib._params.random import random_stream
from cnnlib._system.packages import required
from cnnlib.data.class_folders import TRAINING, VALIDATION, scan_folder
from cnnlib.data.image_cache import (
    Source,
    UnreadableImages,
    cached_images,
    known_unreadable,
    note_unreadable,
)

_WHERE = "load_image_folder"
_GOLDEN = 0.6180339887498949


def load_image_folder(
    root: str | os.PathLike,
    size: int | Sequence[int],
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    channels: int | None = None,
    verbose: bool = True,
    skip_unreadable: bool = False,
) -> dict[str, Any]:
    """Read ``root/<class>/*.png|jpg|...``, or ``root/train|val|test/<class>/*``, into memory-mapped arrays.

    The images are decoded once, into a cache beside `root` (the folder ``<root>.cnnlib-cache``, or one below
    ``$CNNLIB_CACHE`` if that is set): an array file for ``np.load`` and an index in JSON. It is made anew
    when files come, go or change (by their names, sizes and times). Several processes may read and make it
    at once.

    Parameters
    ----------
    root : path
        A folder with one folder for each class, whose name is the class's; or with such a folder for each
        split: 'train' or 'training', 'val', 'valid' or 'validation', 'test' or 'testing'. A folder without
        any file makes no class, with a warning, and ``__MACOSX`` none. Images are the files in classes'
        folders that end in .png, .jpg, .jpeg, .bmp, .gif, .tif, .tiff or .webp; hidden files are passed over,
        and so, with a warning, are images beside these folders or in folders below them.
    size : int or (int, int)
        Height and width that all images get: they are scaled so that they cover it, and what stands out on
        two sides is cut off. Photographs are turned upright as their EXIF data say, and transparent parts
        become white.
    validation, test : float
        Shares of each class's images for these splits, in [0, 1), together below 1; a share above 0 gets an
        image at least. The split is stratified and depends on the files' names and `seed` alone. A split
        that has a folder of its own is what lies there; the shares are of the training images then.
    seed : int
        Governs which images fall into which split.
    channels : 1, 3 or None
        Grey or colours (red, green, blue); None: grey if all files are, otherwise colours.
    verbose : bool
        Say every few seconds how far the decoding has come.
    skip_unreadable : bool
        Leave out files that cannot be read, instead of refusing the folder. The others stay in their splits.

    Returns
    -------
    dict
        ``X_train``, ``X_val``, ``X_test``: uint8 memory maps (N, channels, H, W), read-only. ``y_train``,
        ``y_val``, ``y_test``: int64 labels (N,). ``classes``: the names of the classes, sorted, a tuple.
        ``files_train``, ``files_val``, ``files_test``: the images' files. ``unreadable``: a line for
        each file that was left out, which says why.

    Raises
    ------
    ImportError
        Pillow or filelock is not installed.
    FileNotFoundError
        There is no folder `root`.
    ValueError
        A class's folder of other files than images, files that cannot be read (they are named), a class that
        the training images lack, or no image for training.
    OSError
        The disk has no room for the images at this size; nothing is written then.

    Examples
    --------
    With the folders ``photos/cats`` and ``photos/dogs`` of ten images each:

    >>> data = load_image_folder("photos", size=16)
    >>> data["X_train"].shape, data["classes"]
    ((16, 3, 16, 16), ('cats', 'dogs'))
    """
    height, width, *shares = checked_options(_WHERE, size, validation, test, seed, channels)
    root = Path(path_text(_WHERE, "root", root))
    classes, files, labels, place = in_order_of_splits(root, seed)
    every = np.arange(len(files))

    def source(rows):
        return Source(root, classes, tuple(files[i] for i in rows), labels[rows], int(seed))

    faults = known_unreadable(source(every)) if flag(_WHERE, "skip_unreadable", skip_unreadable) else {}
    kept = np.delete(every, list(faults))
    while True:
        try:
            X = cached_images(source(kept), height, width, channels, verbose)
            break
        except UnreadableImages as error:
            if not skip_unreadable:
                raise ValueError(
                    f"{_WHERE}: {error}; skip_unreadable=True (--skip-unreadable) leaves such files out"
                ) from None
            faults |= {int(kept[k]): fault for k, fault in error.faults.items()}
            note_unreadable(source(every), faults)
            kept = np.delete(every, list(faults))
    paths = tuple(root / files[i] for i in kept)
    return {
        **splits(_WHERE, X, labels[kept], paths, place[kept], *shares),
        "classes": classes,
        "unreadable": tuple(faults[k] for k in sorted(faults)),
    }


def folder_digest(root: str | os.PathLike, task: str = "classes") -> str:
    """A text that is the same as long as the folder holds the same classes and files, by their names.

    The split depends on these: other files lead to other training images. With another `task` the folders
    are those of images and masks, which may lie deeper.
    """
    found = scan_folder(Path(root), task != "classes")
    classes, files = found.classes, found.files
    if task != "classes":
        classes = tuple(name for name in classes if name in ("images", "masks"))
        files = [file for file in files if file.parts[0] in classes]
    names = "\0".join([*classes, "", *(file.as_posix() for file in files)])
    return hashlib.sha256(os.fsencode(names)).hexdigest()[:16]


def checked_options(
    where: str, size: Any, validation: Any, test: Any, seed: Any, channels: Any
) -> tuple[int, int, float, float]:
    """Height, width, and the shares for validation and for tests; the others are checked alone."""
    sizes = size if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    if len(sizes) != 2:
        raise ValueError(f"{where}: size must be an integer or (height, width), got {size!r}")
    height, width = (positive_int(where, "size", side) for side in sizes)
    validation, test = probability(where, "validation", validation), probability(where, "test", test)
    if validation + test >= 1:
        raise ValueError(f"{where}: validation + test must be below 1, got {validation} + {test}")
    if channels is not None:
        choice(where, "channels", str(integer(where, "channels", channels)), ("1", "3"))
    if seed is None:
        raise TypeError(f"{where}: seed must be an integer, got None")
    return height, width, validation, test


def in_order_of_splits(root: Path, seed: int) -> tuple[tuple[str, ...], list[Path], np.ndarray, np.ndarray]:
    """Classes; files relative to `root`, labels (N,) and places (N,), in the order of the places."""
    required("PIL", _WHERE, "Pillow", "images")
    found = scan_folder(root)
    if found.lost:
        which = f"{len(found.lost)} images lie elsewhere than in a class's folder itself, as {found.lost[0]}"
        warnings.warn(f"{_WHERE}: {which}; they are not read", stacklevel=3)
    place = (found.parts - TRAINING).astype(float)  # below 0 in the folder of another split
    place[found.parts == TRAINING] = places(
        found.labels[found.parts == TRAINING], random_stream(seed, _WHERE)
    )
    order = np.lexsort((found.labels, place))
    return found.classes, [found.files[i] for i in order], found.labels[order], place[order]


def places(labels: np.ndarray, random: Any) -> np.ndarray:
    """A place in [0, 1) for each image: those of a class are spread evenly, in random order.

    So whatever lies between two places holds nearly the same share of every class, and any split is a slice
    of the images in this order. Each class begins at another offset; small ones would otherwise leave a split
    all at once.
    """
    place = np.empty(len(labels))
    for label in range(labels[-1] + 1):
        members = np.flatnonzero(labels == label)
        offset = (0.5 + label * _GOLDEN) % 1
        place[random.permutation(members)] = (np.arange(len(members)) + offset) / len(members)
    return place


def splits(
    where: str,
    X: np.ndarray,
    y: np.ndarray,
    paths: Sequence[Path],
    place: np.ndarray,
    validation: float,
    test: float,
) -> dict[str, Any]:
    """The parts of the images, which stand in the order of `place`: those in folders of splits come first.

    A split without a folder is a share of the other images.
    """
    folders = np.searchsorted(
        place, [VALIDATION - TRAINING, 0]
    ).tolist()  # where validation and training begin
    own = {"test": slice(0, folders[0]), "val": slice(*folders)}
    shares = {"test": test, "val": validation}
    slices, begin, share = {}, folders[1], 0.0
    for part, rows in own.items():
        if rows.start < rows.stop:
            slices[part] = rows
            continue
        share += shares[part]
        end = max(int(np.searchsorted(place, share)), begin + int(shares[part] > 0))
        slices[part], begin = slice(begin, end), end
    if begin >= len(y):
        raise ValueError(
            f"{where}: of {len(y)} images none is left for training with validation {validation:g} and "
            f"test {test:g}"
        )
    slices["train"] = slice(begin, None)
    data: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        rows = slices[part]
        data |= {f"X_{part}": X[rows], f"y_{part}": y[rows], f"files_{part}": paths[rows]}
    return data

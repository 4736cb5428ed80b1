"""Which images lie in which class's folder, and in which split's where there are folders for these."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlib.data.image_cache import CACHE_SUFFIX
from cnnlib.data.image_files import find_images, passed_over

_WHERE = "load_image_folder"
_NO_CLASSES = ("__MACOSX",)  # which macOS leaves in archives
TEST, VALIDATION, TRAINING = range(3)  # the order of splits in the array of images
_SPLITS = {  # the names that Ultralytics, fastai and torchvision give the folders
    "test": TEST,
    "testing": TEST,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "train": TRAINING,
    "training": TRAINING,
}


@dataclass(frozen=True)
class ClassFolders:
    """The images below a folder.

    Attributes
    ----------
    classes : tuple of str
        The names of the classes' folders, sorted.
    files : list of Path
        Relative to the folder, sorted by split, class and name.
    labels : array (N,) of int64
    parts : array (N,) of int64
        TEST or VALIDATION for an image in that split's folder, TRAINING for all others.
    lost : list of Path
        Images that lie in no class's folder itself.
    """

    classes: tuple[str, ...]
    files: list[Path]
    labels: np.ndarray
    parts: np.ndarray
    lost: list[Path]


def scan_folder(root: Path, deep: bool = False) -> ClassFolders:
    """Find the images in ``root/<class>``, or in ``root/<split>/<class>`` where all folders are splits'.

    Folders without a file are passed over, with a warning. With `deep` images may lie in any folder below
    ``root/<class>``, which may lack them.

    FileNotFoundError if there is no folder `root`. ValueError for a folder of other files than images, no
    folder of a class, and a class that the training images lack.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{_WHERE}: there is no folder {root}")
    folders = _folders(root)
    if not folders:
        raise ValueError(f"{_WHERE}: {root} must hold a folder of images for each class; it holds no folder")
    if deep:
        found = [(TRAINING, folder, find_images(folder, deep=True)) for folder in folders]
        lost = find_images(root)
    else:
        found, lost = _by_class(root, folders)
    classes = tuple(sorted({folder.name for part, folder, _ in found if part == TRAINING}))
    for _, folder, _ in found:
        if folder.name not in classes:
            raise ValueError(f"{_WHERE}: {folder} is of a class that the training images lack")
    files = [path.relative_to(root) for _, _, images in found for path in images]
    counts = [len(images) for _, _, images in found]
    labels = np.repeat([classes.index(folder.name) for _, folder, _ in found], counts)
    parts = np.repeat([part for part, *_ in found], counts)
    return ClassFolders(classes, files, labels.astype(np.int64), parts.astype(np.int64), lost)


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder that may be of classes or splits, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and not path.name.endswith(CACHE_SUFFIX)
        and path.name not in _NO_CLASSES
    )


def _by_class(root: Path, folders: list[Path]) -> tuple[list[tuple[int, Path, list[Path]]], list[Path]]:
    """Return split, folder and images of each class's folder, and images that lie elsewhere."""
    named = [(_SPLITS[folder.name.lower()], folder) for folder in folders if folder.name.lower() in _SPLITS]
    trained = [folder for part, folder in named if part == TRAINING]
    lost, roots = find_images(root), [(TRAINING, root)]
    if len(named) == len(folders) and trained and not any(map(find_images, trained)):
        lost += [path for folder in folders for path in find_images(folder)]
        roots = sorted(named)
    found = []
    for part, each in roots:
        for folder in _folders(each):
            images = find_images(folder, deep=True)
            own = [path for path in images if path.parent == folder]
            lost += [path for path in images if path.parent != folder]
            if not own:
                _refuse_or_tell(folder)
            else:
                found.append((part, folder, own))
    if not found:
        raise ValueError(f"{_WHERE}: {root} must hold a folder of images for each class; all are empty")
    return found, lost


def _refuse_or_tell(folder: Path) -> None:
    """Warn of a class's folder without any file; ValueError for one with others than images."""
    if not any(_visible(folder)):
        warnings.warn(f"{_WHERE}: {folder} is empty and makes no class", stacklevel=6)
        return
    deeper = any(path.is_dir() for path in folder.iterdir())
    hint = f", but folders: is {folder} the folder that is meant?" if deeper else ""
    raise ValueError(f"{_WHERE}: {folder} holds no images{hint}{passed_over(folder)}")


def _visible(folder: Path) -> Iterator[Path]:
    """Yield what a folder holds but for hidden files."""
    return (path for path in folder.iterdir() if not path.name.startswith("."))

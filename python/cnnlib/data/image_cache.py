"""Decoded images on disk: an array file that is mapped into memory, and an index in JSON beside it.

A cache is a folder that appears under its name complete, or not at all. The name contains a fingerprint of
the image files, so a changed file leads to another folder; the one that it replaces is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlib._files.locks import locked
from cnnlib._files.npy import mapped_array
from cnnlib._files.written import sync_folder, written_whole
from cnnlib._system.ahead import in_order
from cnnlib._system.text import shape_text
from cnnlib.data.image_files import is_grey, photo

CACHE_SUFFIX = ".cnnlib-cache"
_FORMAT, _VERSION = "cnnlib image cache", 3  # the version tells how files are decoded
_LOCK, _BUILDING = ".lock", ".building"  # the lock of the caches of a folder, and where one is built
_REPORT_SECONDS = 10
_LARGE = 1e9  # bytes of a cache whose size is said
_UNREADABLE = "unreadable.json"
_NAMED = 10  # unreadable files in a message
_COLOURS = {1: "grey", 3: "rgb"}


class UnreadableImages(ValueError):
    """Files that cannot be read; `faults` says of each (its place in the source) why."""

    def __init__(self, faults: dict[int, str]) -> None:
        self.faults = faults
        named = list(faults.values())[:_NAMED]
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        super().__init__("; ".join(named) + more)


@dataclass(frozen=True)
class Source:
    """The image files of a data set: `files` relative to `root` with their `labels`, in the cache's order."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray
    seed: int

    def stamps(self) -> list[tuple[str, int, int]]:
        """Name, size and time of each file, 0 of what cannot be reached: what tells that one has changed."""
        found = []
        for file in self.files:
            try:
                status = (self.root / file).stat()
                found.append((file.as_posix(), status.st_size, status.st_mtime_ns))
            except OSError:  # its reader says why
                found.append((file.as_posix(), 0, 0))
        return found


def cached_images(source: Source, height: int, width: int, channels: int | None, verbose: bool) -> np.memmap:
    """The images (N, C, height, width), uint8, in the source's order: mapped, after decoding if need be.

    `channels` None: 1 if all files are grey, else 3. OSError, before anything is decoded, if the disk has no
    room for them.
    """
    stamps = source.stamps()
    fingerprint = hashlib.sha256(json.dumps([_VERSION, source.classes, stamps]).encode()).hexdigest()
    root = cache_root(source.root)
    wanted = []
    for C in [channels] if channels else (3, 1):
        prefix, shape = f"{height}x{width}-{_COLOURS[C]}-{source.seed}-", (len(stamps), C, height, width)
        wanted.append(_Cache(root, prefix, fingerprint, shape, None if channels else C == 1))
    images = _opened(wanted)
    if images is None:
        with _alone(root, verbose):
            images = _opened(wanted)  # which another process may have made meanwhile
            if images is None:
                images = _made(source, stamps, wanted, channels, verbose)
    return images


def _opened(caches):
    """The array of the first cache that there is; None where there is none."""
    return next((images for cache in caches if (images := cache.opened()) is not None), None)


def _made(source, stamps, wanted, channels, verbose):
    """Decode the images, and open the one of the `wanted` caches that they make."""
    root, size = wanted[0].root, wanted[0].shape[2:]
    with _building_folder(root) as building:
        grey = _decode(source, building / "images.npy", size, channels, verbose)
        if source.stamps() != stamps:
            raise ValueError(f"the files in {source.root} changed while they were read; try again")
        cache = next(cache for cache in wanted if cache.grey in (None, grey))
        index = {"format": _FORMAT, "version": _VERSION, "fingerprint": cache.fingerprint}
        index |= {"shape": cache.shape, "grey files": grey, "classes": source.classes}
        index |= {"labels": source.labels.tolist(), "files": stamps}
        with open(building / "index.json", "x", encoding="utf-8") as file:
            json.dump(index, file)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(building)
        _put_in_place(building, cache)
    _remove_superseded(cache)
    images = cache.opened()
    if images is None:
        raise OSError(f"{cache.folder} was removed or damaged while it was read")
    return images


def known_unreadable(source: Source) -> dict[int, str]:
    """The files of which :func:`note_unreadable` noted why they cannot be read, unless they changed since."""
    try:
        noted = json.loads((cache_root(source.root) / _UNREADABLE).read_text(encoding="utf-8"))
        faults = {(name, size, time): fault for name, size, time, fault in noted}
    except (OSError, RecursionError, TypeError, ValueError):
        return {}
    stamps = enumerate(source.stamps())
    return {number: str(faults[stamp]) for number, stamp in stamps if stamp in faults}


def note_unreadable(source: Source, faults: dict[int, str]) -> None:
    """Note why files cannot be read, so that the next call need not try them again."""
    stamps = source.stamps()
    text = json.dumps([[*stamps[number], fault] for number, fault in faults.items()])
    with written_whole(cache_root(source.root) / _UNREADABLE) as file:
        file.write(text.encode())


@dataclass(frozen=True)
class _Cache:
    """A cache that is sought: how its name begins, what its array is, whether the files must be grey."""

    root: Path
    prefix: str
    fingerprint: str
    shape: tuple[int, int, int, int]
    grey: bool | None

    @property
    def folder(self):
        return self.root / (self.prefix + self.fingerprint[:16])

    def opened(self):
        """The array; None if there is none, or if it is not whole or not the one that is sought."""
        try:
            index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
            images = mapped_array(self.folder / "images.npy")
            size = (self.folder / "images.npy").stat().st_size
            known = [index[name] for name in ("format", "version", "fingerprint", "grey files")]
        except (KeyError, OSError, OverflowError, RecursionError, TypeError, ValueError):
            return None
        if known[:3] != [_FORMAT, _VERSION, self.fingerprint] or self.grey not in (None, known[3]):
            return None
        fits = images.dtype == np.uint8 and images.flags.c_contiguous
        return images if fits and images.shape == self.shape and images.offset + images.size == size else None


def cache_root(root):
    """Beside the images, or below ``$CNNLIB_CACHE``, where equal names are told apart by their paths."""
    root = root.resolve()
    elsewhere = os.environ.get("CNNLIB_CACHE")
    if not elsewhere:
        return root.with_name(root.name + CACHE_SUFFIX)
    return Path(elsewhere) / f"{root.name}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def _put_in_place(building, cache):
    """Give the finished cache its name; a damaged one of that name has to go."""
    shutil.rmtree(cache.folder, ignore_errors=True)
    os.rename(building, cache.folder)
    sync_folder(cache.root)


@contextlib.contextmanager
def _alone(root, verbose):
    """Hold the lock of a folder of caches, made if missing: one process at a time makes caches in it."""

    def waits():
        if verbose:
            print(f"waiting for another process, which reads images into {root}", flush=True)

    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(root / _LOCK, "load_image_folder", "images", waits))
        except OSError as error:
            error.filename = str(root)
            error.strerror = f"{error.strerror}; caches go below $CNNLIB_CACHE if that is set"
            raise
        yield


@contextlib.contextmanager
def _building_folder(root):
    """A new folder to build a cache in; what is left of it is removed, also where its process was killed."""
    building = root / _BUILDING
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _remove_superseded(cache):
    """Remove caches of files as they were before. (Maps stay readable.)"""
    with contextlib.suppress(OSError):
        for other in cache.root.iterdir():
            if other.name.startswith(cache.prefix) and other != cache.folder:
                shutil.rmtree(other, ignore_errors=True)


def _check_room(folder, shape, verbose):
    """Refuse a cache that the disk has no room for; say how large a large one becomes."""
    size, free = math.prod(shape), shutil.disk_usage(folder).free
    about = f"{shape[0]} images of {shape_text(shape[1:])} take {_size_text(size)} on the disk"
    if size > free:
        raise OSError(f"load_image_folder: {about}, and that of {folder.parent} has {_size_text(free)} free")
    if verbose and size > _LARGE:
        print(f"reading images: {about}", flush=True)


def _size_text(size):
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _decode(source, path, size, channels, verbose):
    """Write the images to the array file `path`, one after the other; returns whether all files are grey."""
    paths = [source.root / file for file in source.files]
    failures: dict[int, str] = {}

    def decoded(path):
        try:
            return photo(path, size, channels)
        except (OSError, ValueError) as error:
            return error

    workers = os.cpu_count() or 1
    grey = all(in_order(is_grey, paths, workers))
    shape = len(paths), channels or (1 if grey else 3), *size
    channels = shape[1]
    _check_room(path.parent, shape, verbose)
    with open(path, "xb") as file, contextlib.closing(in_order(decoded, paths, workers)) as images:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for number, image in enumerate(_reported(images, len(paths), verbose)):
            if isinstance(image, Exception):
                failures[number] = str(image)
            elif not failures:
                file.write(image.data)
        file.flush()
        os.fsync(file.fileno())
    if failures:
        raise UnreadableImages(failures)
    return grey


def _reported(items, total, verbose):
    """Pass the items on, and say every few seconds how many there have been."""
    reported = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if verbose and time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            print(f"reading images: {done} of {total}", flush=True)

"""What a network makes of images, computed once: :func:`features`."""

from __future__ import annotations

import copy
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlib._params import positive_int, type_name
from cnnlib._system.ahead import in_order
from cnnlib._system.config import get_num_threads
from cnnlib._typing import Array
from cnnlib.augment import HorizontalFlip, RandomCrop
from cnnlib.data.image_files import photo
from cnnlib.data.normalization import of_bytes
from cnnlib.data.row_array import RowArray
from cnnlib.inference.predictor import Predictor
from cnnlib.inference.preparation import prepare
from cnnlib.pretrained.store import KEY_BYTES, Features, Store
from cnnlib.solver.interrupts import Interrupts

_BATCH, _BATCH_VALUES = 64, 2**22  # images that are computed, and kept, together
_SHIFT = 8  # a view moves an image by up to an eighth of its sides
_REPORT_SECONDS = 2.0


def features(
    predictor: Any,
    images: Any,
    *,
    views: int = 1,
    cache: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> NDArray[Any] | Features:
    """Compute what a network makes of images, each of them once.

    Parameters
    ----------
    predictor : Predictor or model
        The trunk of a network, :meth:`cnnlib.models.GraphNet.cut`; a model is prepared first.
    images : array (N, ...), or sequence of paths
        Samples as the predictor takes them (memory maps and shards are read in parts), or image files, which
        are scaled and cropped around their middle to the predictor's size.
    views : int
        How many views of each image: itself, mirrored left to right, and others mirrored and moved at random
        by up to an eighth of height and width, always in the same way for the same image.
    cache : path or None
        A folder in which the features are kept, keyed by the images' content (of files, their bytes). What is
        there is not computed again: after an interrupt, for images that were moved or renamed, or when
        others have come. One folder is for one network. None: nothing is kept.
    verbose : bool
        Say every few seconds how many images are done, how many a second, and how long it takes yet.

    Returns
    -------
    Features or ndarray, (views * N, ...)
        First those of all images as they are, then of their second views, and so on: ``np.tile(y, views)``
        are their labels. With `cache` they are mapped from the disk.

    Raises
    ------
    ValueError
        For samples that the network does not take, a network of several outputs, several views of what are
        no images, and a cache that holds the features of another network.
    TypeError
        For what is no network; with `cache`, for a `preprocess` of the user's own, which has no name.
    OSError
        If a file cannot be read or the cache not be written, or another process is writing to it.
    ImportError
        For files without Pillow, for a `cache` without filelock.

    Examples
    --------
    >>> import cnnlib
    >>> from cnnlib.models import ConvNet
    >>> trunk = cnnlib.prepare(ConvNet("resnet8", (3, 32, 32), 10, seed=0).cut())
    >>> images = np.random.default_rng(0).standard_normal((20, 3, 32, 32))
    >>> features(trunk, images, views=2, cache="features of resnet8")
    Features(shape=(40, 64), dtype=float32)
    """
    if not isinstance(predictor, Predictor):
        if not callable(getattr(predictor, "graph", None)):
            raise TypeError(f"features: predictor must be a Predictor or a model, got {type_name(predictor)}")
        predictor = prepare(predictor)
    if predictor.outputs:
        raise ValueError(
            f"features: the network has several outputs ({', '.join(predictor.outputs)}): cut it"
        )
    views = positive_int("features", "views", views)
    source = _source(images, predictor)
    if views > 1 and len(source.shape) != 3:
        raise ValueError(f"features: views are of images (N, C, H, W), got samples of shape {source.shape}")
    row = predictor(np.empty((0, *source.shape), predictor.dtype))
    if cache is None:
        out = np.empty((views * source.count, *row.shape[1:]), row.dtype)
        jobs = [(view, k) for view in range(views) for k in range(source.count)]
        for rows, made in _computed(predictor, source, jobs, verbose, 0):
            out[[view * source.count + k for view, k in rows]] = made
        return out
    store = Store(cache, network_digest(predictor), repr(predictor), row.shape[1:], row.dtype)
    keys = [source.key(k) for k in range(source.count)]
    wanted = [_digest(key, view.to_bytes(4, "little")) for view in range(views) for key in keys]
    places = store.places()
    if not all(key in places for key in wanted):
        with store.writing():
            places = store.places()  # as nobody else changes it any more
            new = [number for number, key in enumerate(wanted) if key not in places]
            first = {wanted[number]: number for number in reversed(new)}
            jobs = [divmod(number, source.count) for number in sorted(first.values())]
            for rows, made in _computed(predictor, source, jobs, verbose, len(wanted) - len(new)):
                store.append([wanted[view * source.count + k] for view, k in rows], made)
        places = store.places()
    return store.rows([places[key] for key in wanted])


def network_digest(predictor: Predictor) -> str:
    """A text that is the same for predictors of the same weights, layers and preprocessing of bytes."""
    of_files = copy.copy(predictor)
    of_files.preprocess = of_bytes(predictor.preprocess)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        of_files.save(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class _Source:
    """Images: how many, the shape of one, those of some numbers, and the key of one."""

    count: int
    shape: tuple[int, ...]
    load: Callable[[list[int]], NDArray[Any]]
    key: Callable[[int], bytes]


def _source(images: Any, predictor: Predictor) -> _Source:
    paths = isinstance(images, Sequence) and all(isinstance(item, (str, os.PathLike)) for item in images)
    if paths and len(images) > 0 and not isinstance(images, str):
        if len(predictor.input_dim) != 3 or predictor.input_dim[0] not in (1, 3):
            raise ValueError(
                "features: the network takes no images of 1 or 3 channels, as files have them, but samples "
                f"of shape {predictor.input_dim}"
            )
        C, *size = predictor.input_dim

        def photos(numbers: list[int]) -> NDArray[Any]:
            found = in_order(lambda k: photo(images[k], (size[0], size[1]), C), numbers, get_num_threads())
            return np.stack(list(found))

        return _Source(
            len(images), predictor.input_dim, photos, lambda k: _digest(Path(images[k]).read_bytes())
        )
    X = images if isinstance(images, (np.ndarray, RowArray)) else np.asarray(images)
    if X.ndim < 2 or X.dtype.kind not in "fiub":
        raise ValueError(f"features: images must be samples (N, ...) or paths, got {type_name(images)}")
    about = f"{X.dtype.str} {X.shape[1:]}".encode()
    return _Source(
        len(X), tuple(X.shape[1:]), lambda numbers: X[numbers], lambda k: _digest(about, X[k].tobytes())
    )


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _computed(
    predictor: Predictor, source: _Source, jobs: list[tuple[int, int]], verbose: bool, known: int
) -> Iterator[tuple[list[tuple[int, int]], Array]]:
    """The features of jobs, pairs of view and image; an interrupt waits until those of a batch are taken."""
    size = max(1, min(_BATCH, _BATCH_VALUES // int(np.prod(source.shape, dtype=np.int64))))
    started = told = time.monotonic()
    done = 0
    with Interrupts() as interrupts:
        for view in sorted({view for view, _ in jobs}):
            of_view = [job for job in jobs if job[0] == view]
            for start in range(0, len(of_view), size):
                with interrupts.allowed():
                    batch = of_view[start : start + size]
                    X = _seen(source, [k for _, k in batch], view)
                yield batch, predictor(X)
                done += len(batch)
                now = time.monotonic()
                if verbose and (now - told > _REPORT_SECONDS or done == len(jobs)):
                    told, rate = now, done / max(now - started, 1e-9)
                    before = f", {known} were there" if known else ""
                    left = f", {(len(jobs) - done) / rate:.0f} s left" if done < len(jobs) else ""
                    print(f"features: {done} of {len(jobs)}{before}; {rate:.3g} a second{left}", flush=True)


def _seen(source: _Source, numbers: list[int], view: int) -> NDArray[Any]:
    """Images as a view shows them. The randomness is the image's own."""
    X = source.load(numbers)
    if view == 0:
        return X
    if view == 1:
        return np.ascontiguousarray(X[:, :, :, ::-1])
    shift = min(X.shape[2:]) // _SHIFT
    seen = []
    for image, number in zip(X, numbers, strict=True):
        rng = np.random.default_rng([int.from_bytes(source.key(number)[:8], "little"), view])
        image = HorizontalFlip()(image[None], rng)
        seen.append(RandomCrop(shift, "reflect")(image, rng) if shift else image)
    return np.concatenate(seen)

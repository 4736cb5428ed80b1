"""Features on disk: a file to which rows are appended, each under the key of its image.

header    4096 bytes: JSON, padded with blanks; which network made the rows, their shape and dtype
records   20 bytes of key, 4 bytes CRC-32 of the row, the row

A process that ends in the middle of a record leaves a part of one, which the next one writes over.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib._files.locks import locked
from cnnlib._files.version import check_version
from cnnlib._files.written import written_whole
from cnnlib._params import path_text
from cnnlib._typing import Array
from cnnlib.data.shards import ShardedArray

KEY_BYTES = 20
_FORMAT, _VERSION, _HEADER = "cnnlib features", 1, 4096


class Features(ShardedArray):
    """Rows of a file of features, which is mapped; read like an array along its first axis.

    :func:`cnnlib.features` makes it. The :class:`cnnlib.solver.Solver` takes it as ``X_train`` or ``X_val``.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Examples
    --------
    >>> rows = Features(np.array([[1.0], [2.0], [3.0]]), np.array([2, 0]))
    >>> rows.shape, rows[1], rows[:]
    ((2, 1), array([1.]), array([[3.],
           [1.]]))
    """

    def __init__(self, rows: NDArray[Any], places: NDArray[np.intp]) -> None:
        super().__init__([rows])
        self._places = places
        self.shape = (len(places), *rows.shape[1:])

    def __repr__(self) -> str:
        return f"Features(shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, rows: int | slice | ArrayLike) -> Any:
        if isinstance(rows, tuple):
            raise IndexError("Features: rows are chosen by integers or a slice, got a tuple")
        index = rows if isinstance(rows, slice) else np.asarray(rows)
        return np.array(self.shards[0][self._places[index]])

    def part(self, start: int, stop: int) -> Features:
        """Return rows `start` to `stop` without reading them."""
        return Features(self.shards[0], self._places[start:stop])


class Store:
    """The file, in `folder`, of the features that one network makes: rows of this shape and dtype.

    `network` is the network's digest, `title` what messages call it. ValueError if the file holds what
    another network made, or is none of these files.
    """

    def __init__(
        self, folder: str | os.PathLike[str], network: str, title: str, shape: tuple[int, ...], dtype: Any
    ) -> None:
        self.path = Path(path_text("features", "cache", folder)) / "features.bin"
        self._about = {"format": _FORMAT, "version": _VERSION, "network": network, "title": title}
        self._about |= {"shape": list(shape), "dtype": np.dtype(dtype).name}
        row = (np.dtype(dtype).newbyteorder("<"), shape)
        self._record = np.dtype([("key", f"V{KEY_BYTES}"), ("crc", "<u4"), ("row", *row)])
        if self.path.exists():
            self._refuse_other()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Store]:
        """A block in which rows may be appended; no other process may meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.path.with_suffix(".lock"), "features(cache=...)", "images"):
                if not self.path.exists():
                    with written_whole(self.path) as file:
                        file.write(json.dumps(self._about).encode().ljust(_HEADER))
                self._refuse_other()
                with open(self.path, "r+b") as self._file:
                    end = _HEADER + self._count() * self._record.itemsize
                    self._file.truncate(end)
                    self._file.seek(end)
                    yield self
                    os.fsync(self._file.fileno())
        except BlockingIOError:
            raise OSError(f"features: another process is writing to {self.path}; try again later") from None

    def append(self, keys: Sequence[bytes], rows: Array) -> None:
        """Write rows with their keys."""
        records = np.empty(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), f"V{KEY_BYTES}")
        records["row"] = rows
        records["crc"] = [zlib.crc32(row) for row in records["row"].copy()]
        self._file.write(records.tobytes())
        self._file.flush()

    def places(self) -> dict[bytes, int]:
        """Where the row of each key stands; rows that are not as they were written are left out."""
        return {
            record["key"].tobytes(): place
            for place, record in enumerate(self._records())
            if zlib.crc32(record["row"].tobytes()) == record["crc"]
        }

    def rows(self, places: Sequence[int]) -> Features:
        """The rows at these places, mapped."""
        return Features(self._records()["row"], np.array(places, np.intp))

    def _records(self) -> np.memmap[Any, Any]:
        count = self._count()
        if count == 0:
            return np.empty(0, self._record)  # type: ignore[return-value]  # nothing cannot be mapped
        return np.memmap(self.path, self._record, "r", _HEADER, (count,))

    def _count(self) -> int:
        size = self.path.stat().st_size if self.path.exists() else 0
        return max(size - _HEADER, 0) // self._record.itemsize

    def _refuse_other(self) -> None:
        with open(self.path, "rb") as file:
            header = file.read(_HEADER)
        try:
            found = json.loads(header)
            title, network = found["title"], found["network"]
            kind, version = found["format"], found["version"]
        except (KeyError, RecursionError, TypeError, ValueError):
            raise ValueError(f"features: {self.path} is damaged, or no file of features") from None
        if kind != _FORMAT:
            raise ValueError(f"features: {self.path} is no file of features: its format is {kind!r}")
        check_version(self.path, "a file of features", version, _VERSION)
        if network != self._about["network"] or found != self._about:
            raise ValueError(
                f"features: {self.path} holds features of another network, {title} (digest {network}), "
                f"not of {self._about['title']} (digest {self._about['network']}): name another cache"
            )

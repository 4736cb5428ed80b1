"""Files that are opened to be read: a missing one, a folder and a pickle are refused in words."""

from __future__ import annotations

import io
import os
import zipfile
from typing import BinaryIO

_ZIP = b"PK\x03\x04"
_PICKLED = "data.pkl"  # what PyTorch calls the pickle in its zip files
_HEADER = 9  # bytes: the length of a safetensors file's header, and its first one
_MARK = 0x80  # the first byte of a binary pickle, whose second one is its protocol
_PROTOCOLS = range(2, 6)


class BoundedReader(io.BufferedReader):
    """Takes no memory for bytes that the file does not have, whatever number a zip's directory asks for."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self.size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def open_to_read(where: str, path: str | os.PathLike[str]) -> BoundedReader:
    """Open a file that `where`, a function, is to read.

    FileNotFoundError, IsADirectoryError, or ValueError for a pickle, says what to do instead.
    """
    name = os.fspath(path)  # a number would be a file that is open, and be closed
    if os.path.isdir(name):
        raise IsADirectoryError(f"{where}: {name} is a folder; cnnlib.load reads that of a run")
    if not os.path.exists(name):
        raise FileNotFoundError(f"{where}: there is no file {name}")
    file = BoundedReader(name)
    if is_pickle(file):
        file.close()
        raise ValueError(f"{where}: {name} {about_pickle(name)}")
    file.seek(0)
    return file


def is_pickle(file: BinaryIO) -> bool:
    """Say whether an open file is a binary pickle, or a zip file of one, as PyTorch writes."""
    file.seek(0)
    first = file.read(_HEADER)
    if first.startswith(_ZIP):
        return _is_zip_of_pickle(file)
    if first.endswith(b"{") and int.from_bytes(first[:-1], "little") < os.fstat(file.fileno()).st_size:
        return False  # a safetensors file, whose length of the header may begin like a pickle
    return len(first) > 1 and first[0] == _MARK and first[1] in _PROTOCOLS


def about_pickle(path: str) -> str:
    """Say, in words that follow its name, what a pickle is and which line converts it."""
    name = os.path.splitext(os.path.basename(path))[0] + ".safetensors"
    return (
        "is a pickle, as PyTorch writes it, and to read one may run any code in it. "
        "If it holds a state_dict, this line converts it: import torch, cnnlib; "
        f"cnnlib.safetensors.save(torch.load({path!r}, map_location='cpu', weights_only=True), {name!r})"
    )


def _is_zip_of_pickle(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.rpartition("/")[2] == _PICKLED for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return False  # whoever reads it says that it is damaged

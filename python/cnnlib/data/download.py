"""Fetch CIFAR-10: pooch transfers and checks the archive, tarfile's data filter unpacks it."""

from __future__ import annotations

import importlib.util
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cnnlib.data.cifar10 import batch_files, default_data_dir

CIFAR10_PAGE = "https://www.cs.toronto.edu/~kriz/"

# layout: archive, its published MD5 sum, the folder inside
_ARCHIVES = {
    "python": ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"),
    "binary": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin"),
}
_RETRIES = 2
_DAMAGE = (
    EOFError,
    FileExistsError,  # members in each other's way
    IsADirectoryError,
    MemoryError,
    NotADirectoryError,
    OverflowError,
    RecursionError,
    tarfile.TarError,
    UnicodeError,
    ValueError,
    zlib.error,
)


def download_CIFAR10(
    dest: str | os.PathLike[str] | None = None,
    layout: str = "python",
    base_url: str = CIFAR10_PAGE,
    md5: str | None = None,
    progress: bool = True,
) -> Path:
    """Download CIFAR-10 (about 170 MB), check it and unpack it.

    Data that is there already is not fetched again. The archive is removed once it is unpacked.

    Parameters
    ----------
    dest : path, optional
        Folder to unpack into, made if need be; by default ``$CNNLIB_DATA``, else ``./data``.
    layout : {'python', 'binary'}
        Which of the two published archives; both hold the same images.
    base_url : str
        Where the archive lies; by default the data set's own page. A mirror or a ``http://`` server of
        your own serves as well, since the checksum decides.
    md5 : str, optional
        The archive's MD5 sum, for a mirror that packed it anew; by default the published one.
    progress : bool
        Report progress on stderr: a bar where tqdm is installed, else lines.

    Returns
    -------
    pathlib.Path
        The folder of the batches, which :func:`load_CIFAR10` takes.

    Raises
    ------
    ImportError
        pooch is not installed.
    ConnectionError
        The transfer failed, three times if it broke off.
    ValueError
        Unknown layout, wrong checksum, or an archive that is not what it should be; nothing is unpacked.

    Examples
    --------
    >>> folder = download_CIFAR10("data", layout="binary")  # where it lies there already, nothing is fetched
    >>> folder.name
    'cifar-10-batches-bin'
    """
    if layout not in _ARCHIVES:
        raise ValueError(f"download_CIFAR10: layout must be 'python' or 'binary', got {layout!r}")
    name, published_md5, folder = _ARCHIVES[layout]
    dest = default_data_dir() if dest is None else Path(dest)
    if all((dest / file).is_file() for file in batch_files(layout)):
        return dest / folder

    try:
        import pooch
        import requests
    except ImportError as error:
        raise ImportError("download_CIFAR10 needs pooch: pip install cnnlib[data]") from error
    dest.mkdir(parents=True, exist_ok=True)
    url = base_url.rstrip("/") + "/"
    store = pooch.create(dest, url, registry={name: f"md5:{md5 or published_md5}"}, retry_if_failed=_RETRIES)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # it would announce its temporary file
    try:
        # The archive as it is: a proxy that packs it anew would change its size.
        headers = {"Accept-Encoding": "identity"}
        archive = store.fetch(
            name, downloader=pooch.HTTPDownloader(_bar(name) if progress else False, headers=headers)
        )
    except requests.RequestException as error:
        raise ConnectionError(f"cannot download {url}{name}: {error}") from error
    except ValueError as error:
        raise ValueError(f"download_CIFAR10: {name} from {base_url}: {error}") from error
    finally:
        logger.setLevel(level)
    unpack(archive, dest, batch_files(layout))
    os.remove(archive)
    return dest / folder


def _bar(name: str) -> Any:
    """What pooch reports to: True for tqdm's bar."""
    return importlib.util.find_spec("tqdm") is not None or _ProgressLines(name)


class _ProgressLines:
    """A line on stderr for every tenth of `total`, in tqdm's terms."""

    def __init__(self, name: str) -> None:
        self.name, self.done, self.total = name, 0, 0

    def update(self, count: int) -> None:
        before, self.done = self.done, min(self.done + count, self.total)
        if self.total and before * 10 // self.total < self.done * 10 // self.total:
            print(f"{self.name}: {self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB", file=sys.stderr)

    def reset(self) -> None:
        """It is complete: pooch reports all of it once more."""
        self.done = self.total

    def close(self) -> None:
        pass


def unpack(archive: str | os.PathLike[str], dest: str | os.PathLike[str], wanted: Sequence[str]) -> None:
    """Unpack a ``.tar.gz``, whose digest pooch has checked, below `dest`.

    tarfile's data filter refuses places outside, devices and links that lead out.

    Parameters
    ----------
    archive, dest : path
    wanted : list of str
        Names of the files that must be there, all in one folder: ``'folder/name'``.

    Raises
    ------
    ValueError
        A damaged archive, a member that is refused, or a wanted file that is missing; then nothing is
        unpacked.
    OSError
        Something below `dest` stands in a file's way.
    ImportError
        A Python without the data filter: before 3.10.12 and 3.11.4.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ImportError("unpack needs tarfile's data filter: Python 3.10.12, 3.11.4 or later")
    folder = PurePosixPath(wanted[0]).parts[0]
    with tempfile.TemporaryDirectory(dir=dest, prefix=".unpacking-") as scratch:
        try:
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(scratch, filter="data")
        except _DAMAGE as error:
            raise ValueError(f"{archive}: the archive is damaged: {error}") from error
        except OSError as error:
            if error.errno is not None:  # the disk's trouble, not the archive's
                raise
            raise ValueError(f"{archive}: the archive is damaged: {error}") from error
        missing = sorted(name for name in wanted if not Path(scratch, name).is_file())
        if missing:
            raise ValueError(f"{archive}: the archive lacks {', '.join(missing)}")
        Path(dest, folder).mkdir(parents=True, exist_ok=True)
        for file in Path(scratch, folder).iterdir():  # whole files only, and only once all are there
            os.replace(file, Path(dest, folder, file.name))

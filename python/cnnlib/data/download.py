"""Fetch CIFAR-10: pooch transfers and checks the archive, tarfile's data filter unpacks it."""

from __future__ import annotations

import gzip
import importlib.util
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from cnnlib._params import path_text
from cnnlib._system.packages import required
from cnnlib.data.cifar10 import batch_files, default_data_dir

CIFAR10_PAGE = "https://www.cs.toronto.edu/~kriz/"

# layout: archive, its published MD5 sum, the folder inside
_ARCHIVES = {
    "python": ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"),
    "binary": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin"),
}
_MOST_BYTES, _MOST_MEMBERS = 400_000_000, 100  # the real archives hold 186 MB in eight files
_MOST_HEADERS = 1 << 20  # bytes; the real archives have a few kilobytes of them
_RETRIES = 2
_DAMAGE = (ArithmeticError, EOFError, MemoryError, RuntimeError, ValueError, tarfile.TarError, zlib.error)
_IN_THE_WAY = (FileExistsError, IsADirectoryError, NotADirectoryError)  # of each other: members


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
    dest = default_data_dir() if dest is None else Path(path_text("download_CIFAR10", "dest", dest))
    dest = dest.expanduser()  # as pooch does
    if all((dest / file).is_file() for file in batch_files(layout)):
        return dest / folder

    pooch = required("pooch", "download_CIFAR10", "pooch", "data")
    requests = required("requests", "download_CIFAR10", "requests", "data")
    dest.mkdir(parents=True, exist_ok=True)
    url = base_url.rstrip("/") + "/"
    store = pooch.create(dest, url, registry={name: f"md5:{md5 or published_md5}"}, retry_if_failed=_RETRIES)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # it would announce its temporary file
    try:
        # The archive as it is: a proxy that packs it anew would change its size.
        headers = {"Accept-Encoding": "identity"}
        bar = importlib.util.find_spec("tqdm") is not None or _ProgressLines(name)  # True: tqdm's
        archive = store.fetch(name, downloader=pooch.HTTPDownloader(progress and bar, headers=headers))
    except requests.RequestException as error:
        raise ConnectionError(f"cannot download {url}{name}: {error}") from error
    except ValueError as error:
        raise ValueError(f"download_CIFAR10: {name} from {base_url}: {error}") from error
    finally:
        logger.setLevel(level)
    unpack(archive, dest, batch_files(layout))
    os.remove(archive)
    return dest / folder


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
    """Unpack a ``.tar.gz`` below `dest`, provided that it is harmless and holds the files `wanted`.

    These are names ``'folder/name'``, all in one folder. Beside what tarfile's data filter refuses (places
    outside, devices, links that lead out) the archive may hold no links at all, nothing outside that folder,
    and no more bytes than such a data set has.

    ValueError for a damaged archive, a member that is not admitted, a wanted file that is missing, or
    something below `dest` that stands in a file's way; nothing is unpacked then. ImportError for a Python
    without the data filter: before 3.10.12 and 3.11.4.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ImportError("unpack needs tarfile's data filter: Python 3.10.12, 3.11.4 or later")
    folder = PurePosixPath(wanted[0]).parts[0]
    with tempfile.TemporaryDirectory(dir=dest, prefix=".unpacking-") as scratch:
        try:
            with _Unzipped(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as tar:
                tar.getmembers()  # by their headers alone
                unzipped.left = None
                tar.extractall(scratch, filter=_admitting(folder))
        except (*_DAMAGE, OSError) as error:
            of_disk = isinstance(error, OSError) and error.errno is not None
            if of_disk and not isinstance(error, _IN_THE_WAY):
                raise
            raise ValueError(f"{archive}: the archive is damaged: {error}") from error
        files = [file.relative_to(scratch) for file in Path(scratch).rglob("*") if file.is_file()]
        missing = sorted(set(wanted) - {file.as_posix() for file in files})
        if missing:
            raise ValueError(f"{archive}: the archive lacks {', '.join(missing)}")
        for place in {Path(dest, parent) for file in files for parent in file.parents}:
            if os.path.lexists(place) and not place.is_dir():
                raise ValueError(f"{archive}: {place} is in the way of its folder")
        for file in files:
            if Path(dest, file).is_dir():
                raise ValueError(f"{archive}: {Path(dest, file)} is in the way of its file")
        for file in files:  # whole files only, and only once all are there
            Path(dest, file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(scratch, file), Path(dest, file))


class _Unzipped(gzip.GzipFile):
    """What a ``.tar.gz`` unzips to; `left` bytes may still be read, None for as many as are asked for.

    A few kilobytes may unzip to gigabytes of headers, which are kept in memory.
    """

    left: int | None = _MOST_HEADERS

    def read(self, size: int | None = -1) -> bytes:
        if self.left is not None:
            if size is None or not 0 <= size <= self.left:
                raise tarfile.ReadError(f"its headers take more than {_MOST_HEADERS} bytes")
            self.left -= size
        return super().read(size)


def _admitting(folder: str) -> Callable[[tarfile.TarInfo, str], tarfile.TarInfo]:
    """A filter for ``extractall``: tarfile's own for data, and what only an archive of CIFAR-10 may hold."""
    count, total = 0, 0

    def admitted(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        nonlocal count, total
        safe = tarfile.data_filter(member, path)
        count, total = count + 1, total + member.size
        if count > _MOST_MEMBERS or total > _MOST_BYTES:
            raise ValueError("it unpacks to more than CIFAR-10 holds")
        if not (member.isfile() or member.isdir()):
            raise ValueError(f"member {member.name!r} is a link or a special file")
        if PurePosixPath(safe.name).parts[:1] != (folder,):
            raise ValueError(f"member {member.name!r} is not in {folder}")
        if member.size < 0:
            raise ValueError(f"member {member.name!r} claims a size of {member.size} bytes")
        return safe

    return admitted

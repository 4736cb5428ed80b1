"""Fetch CIFAR-10: a download that goes on where it broke off, a checksum, and unpacking that is safe.

Built on pooch (``pip install cnnlib[data]``), which checks the sums and puts the file in place; the
transfer itself is :class:`ResumingDownloader`, plugged into it.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cnnlib.data.cifar10 import batch_files, default_data_dir

CIFAR10_PAGE = "https://www.cs.toronto.edu/~kriz/"

# layout: archive, its published MD5 sum, the folder inside
_ARCHIVES = {
    "python": ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py"),
    "binary": ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin"),
}
_MAX_UNPACKED = 400_000_000  # the real archives hold 186 MB
_MAX_MEMBERS = 100  # and eight files
_MAX_HEADERS = 1 << 20  # bytes; the real archives have a few kilobytes of them
_MAX_NAME = 255  # bytes, as file systems have it
_CHUNK = 1 << 16
_ATTEMPTS = 3


def download_CIFAR10(
    dest: str | os.PathLike | None = None,
    layout: str = "python",
    base_url: str = CIFAR10_PAGE,
    md5: str | None = None,
    progress: bool = True,
) -> Path:
    """Download CIFAR-10 (about 170 MB), check it and unpack it.

    A broken transfer leaves a ``.part`` file in `dest`; the next attempt, or the next call, goes on from
    there. Data that is there already is not fetched again. The archive is removed once it is unpacked.

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
        The transfer failed or broke off too often.
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
    archive_name, published_md5, folder = _ARCHIVES[layout]
    dest = default_data_dir() if dest is None else Path(dest)
    if all((dest / name).is_file() for name in batch_files(layout)):
        return dest / folder

    try:
        import pooch
    except ImportError as error:
        raise ImportError("download_CIFAR10 needs pooch: pip install cnnlib[data]") from error
    dest.mkdir(parents=True, exist_ok=True)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # it would announce its temporary file
    try:
        archive = pooch.retrieve(
            url=base_url.rstrip("/") + "/" + archive_name,
            known_hash=f"md5:{md5 or published_md5}",
            fname=archive_name,
            path=dest,
            downloader=ResumingDownloader(dest / f"{archive_name}.part", progress),
        )
    except ValueError as error:
        raise ValueError(f"download_CIFAR10: {archive_name} from {base_url}: {error}") from error
    finally:
        logger.setLevel(level)
    unpack(archive, dest, batch_files(layout))
    os.remove(archive)
    return dest / folder


class ResumingDownloader:
    """A downloader for pooch that keeps what it has in a ``.part`` file and asks only for the rest.

    Parameters
    ----------
    part : path
        The file that survives a broken transfer. It becomes pooch's output file when it is complete.
    progress : bool
        Report progress on stderr.
    pause : float
        Seconds to wait before another attempt.
    """

    def __init__(self, part, progress=True, pause=1.0):
        self.part = Path(part)
        self.progress = progress
        self.pause = pause

    def __call__(self, url, output_file, pooch):
        """Fetch `url`, in a few attempts as long as each brings something, and move it to `output_file`."""
        import requests
        from urllib3.exceptions import HTTPError as TransferError

        failures = 0
        while True:
            had = self._size()
            try:
                self._transfer(url)
                break
            except (requests.RequestException, TransferError, ConnectionError) as error:
                failures = 1 if self._size() > had else failures + 1
                if failures == _ATTEMPTS or isinstance(error, requests.HTTPError):
                    message = f"cannot download {url}: {error}"
                    if self._size():
                        message += f"; {self.part} keeps {self._size()} bytes, call again to go on"
                    raise ConnectionError(message) from error
                time.sleep(self.pause)
        os.replace(self.part, output_file)

    def _size(self):
        return self.part.stat().st_size if self.part.exists() else 0

    def _transfer(self, url):
        import requests

        start = self._size()
        headers = {"Accept-Encoding": "identity"}  # the archive as it is, or byte ranges would not add up
        if start:
            headers["Range"] = f"bytes={start}-"
        with requests.get(url, headers=headers, stream=True, timeout=60) as response:
            if response.status_code == 416:  # nothing after `start`: complete, or not this file at all
                total = response.headers.get("Content-Range", "").rpartition("/")[2]
                if total == str(start):
                    return
                self.part.unlink()
                raise ConnectionError(f"the server's file does not fit {self.part}, which was removed")
            response.raise_for_status()
            span = response.headers.get("Content-Range", "")
            if response.status_code != 206:
                start = 0  # the server sends the whole file
            elif not span.startswith(f"bytes {start}-"):
                raise ConnectionError(f"asked for bytes from {start}, the server sent {span or 'others'!r}")
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() else None
            with open(self.part, "ab" if start else "wb") as file, self._report(start, total) as report:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    file.write(chunk)
                    report.update(len(chunk))
        if total is not None and self._size() < total:
            raise ConnectionError(f"it broke off after {self._size()} of {total} bytes")

    def _report(self, start, total):
        name = self.part.name.removesuffix(".part")
        if self.progress:
            try:
                from tqdm import tqdm
            except ImportError:
                return _ProgressLines(name, start, total)
        else:
            return _ProgressLines(name, start, None)
        return tqdm(initial=start, total=total, desc=name, unit="B", unit_scale=True, unit_divisor=1024)


class _ProgressLines:
    """A line on stderr for every tenth of `total`; silent where that is not known."""

    def __init__(self, name, done, total):
        self.name, self.done, self.total = name, done, total

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def update(self, count):
        before, self.done = self.done, self.done + count
        if self.total and before * 10 // self.total < self.done * 10 // self.total:
            print(f"{self.name}: {self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB", file=sys.stderr)


def unpack(archive: str | os.PathLike, dest: str | os.PathLike, wanted: Sequence[str]) -> None:
    """Unpack a ``.tar.gz`` below `dest`, provided that it is harmless and holds the files `wanted`.

    Every member is looked at before anything is written: only regular files and folders below the folder
    of `wanted`, no links, devices, absolute names or ``..``, no more bytes than such a data set has. The
    contents are copied out as plain files; owners, modes and times in the archive count for nothing.

    Parameters
    ----------
    archive, dest : path
    wanted : list of str
        Names of the files that must be there, all in one folder: ``'folder/name'``.

    Raises
    ------
    ValueError
        A damaged archive, a member that is not admitted, a wanted file that is missing, or something below
        `dest` that stands in a file's way.
    """
    folder = PurePosixPath(wanted[0]).parts[0]
    with open(archive, "rb") as file, _damage_named(archive):
        with _Unzipped(fileobj=file) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as tar:
            files = _harmless_files(tar, archive, folder)
            unzipped.left = None
            missing = sorted(set(wanted) - files.keys())
            if missing:
                raise _Refused(f"{archive}: the archive lacks {', '.join(missing)}")
            _check_places(archive, dest, files)
            with tempfile.TemporaryDirectory(dir=dest, prefix=".unpacking-") as scratch:
                for name, member in files.items():
                    _copy_out(tar, member, Path(scratch, name))
                for name in files:  # whole files only, and only once all are there
                    target = Path(dest, name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(scratch, name), target)


class _Unzipped(gzip.GzipFile):
    """What a ``.tar.gz`` unzips to. Members are skipped by `seek`, so what is read of it are their headers.

    Attributes
    ----------
    left : int or None
        Bytes that may still be read: a long name or a list of extensions is read into memory, and a few
        kilobytes may unzip to gigabytes of it. None: as many as are asked for.
    """

    left: int | None = _MAX_HEADERS

    def read(self, size: int | None = -1) -> bytes:
        if self.left is not None:
            if size is None or not 0 <= size <= self.left:
                raise tarfile.ReadError(f"its headers take more than {_MAX_HEADERS} bytes")
            self.left -= size
        return super().read(size)


def _copy_out(tar, member, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as source, open(target, "xb") as copy:
        shutil.copyfileobj(source, copy)


class _Refused(ValueError):
    """Says already which archive is refused, and why."""


@contextlib.contextmanager
def _damage_named(archive):
    """Turn what a damaged or contrived archive makes of its readers into a ValueError that names it."""
    try:
        yield
    except _Refused:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # the disk's trouble, not the archive's
            raise
        raise ValueError(f"{archive}: the archive is damaged: {error}") from error
    except (tarfile.TarError, zlib.error, EOFError, OverflowError, RecursionError, ValueError) as error:
        raise ValueError(f"{archive}: the archive is damaged: {error}") from error


def _check_places(archive, dest, files):
    """Refuse to unpack `files` where folders are in the way of files, or files in that of folders."""
    for name in files:
        for place in (Path(dest, name), *(Path(dest, parent) for parent in PurePosixPath(name).parents)):
            is_folder = place.is_dir()
            if is_folder if place == Path(dest, name) else os.path.lexists(place) and not is_folder:
                raise _Refused(f"{archive}: {place} is in the way of {name}")


def _harmless_files(tar, archive, folder):
    """The regular files of `tar` by their plain names; refuses a member that could do harm."""
    files, folders, total = {}, set(), 0
    for count, member in enumerate(tar, start=1):
        name = PurePosixPath(member.name)
        plain = PurePosixPath(*(part for part in name.parts if part != "."))
        fault = _fault(member, name, plain, folder)
        if fault is None and member.isfile() and plain.as_posix() in files:
            fault = "occurs twice"
        if fault is not None:
            raise _Refused(f"{archive}: member {member.name!r} {fault}")
        total += member.size
        if total > _MAX_UNPACKED or count > _MAX_MEMBERS:
            raise _Refused(f"{archive}: it unpacks to more than CIFAR-10 holds")
        folders.update(parent.as_posix() for parent in plain.parents)
        if member.isfile():
            files[plain.as_posix()] = member
        else:
            folders.add(plain.as_posix())
    for name in folders & files.keys():
        raise _Refused(f"{archive}: member {name!r} is both a file and a folder")
    return files


def _fault(member, name, plain, folder):
    """What is wrong with a member of an archive, if anything."""
    if name.is_absolute() or ".." in name.parts or any(sign in member.name for sign in "\\:"):
        return "points outside the folder"
    if not (member.isfile() or member.isdir()) or member.issparse():
        return "is a link or a special file"
    if (plain.parts or member.isfile()) and plain.parts[:1] != (folder,):
        return f"is not in {folder}"
    if "\0" in member.name or any(len(os.fsencode(part)) > _MAX_NAME for part in plain.parts):
        return "has a name that no file can have"
    if member.size < 0:
        return f"claims a size of {member.size} bytes"
    return None

"""Image files as arrays; reading them is Pillow's work (``pip install cnnlib[images]``)."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import IO

import numpy as np

_BITS_PER_SAMPLE = 258  # a tag of TIFF files
_PHOTOMETRIC = 262  # another: 0 where the pixels' 0 is white
_ORIENTATION = 274  # a tag of EXIF data: above 4 the image lies on its side
_TOLERANCE = 1 / 255  # by which floating-point pixels may miss [0, 1]: what resampling leaves
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")  # Pillow's names of these
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")  # in bytes 8 to 12 (ISO/IEC 23008-12)
_BRAND = slice(8, 12)
_HEIF_ADVICE = (
    "photos of telephones in HEIC become JPEG by pillow-heif (pip install pillow-heif): "
    "import pillow_heif; from PIL import Image; pillow_heif.register_heif_opener(); "
    "Image.open('photo.heic').save('photo.jpg')"
)


def find_images(folder: str | os.PathLike, *, deep: bool = False) -> list[Path]:
    """The image files in `folder` by their suffixes, sorted; with `deep` in the folders below it too.

    Hidden files and folders are passed over, and so are pipes and links to a folder around them.
    """
    return _images_in(Path(folder), deep, (os.path.realpath(folder),))


def _images_in(folder, deep, around):
    """Find them, without what links to the folders `around`, which are paths without links."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if deep and (real := os.path.realpath(path)) not in around:
                found += _images_in(path, deep, (*around, real))
        elif path.suffix.lower() in IMAGE_SUFFIXES and not path.is_fifo():
            found.append(path)
    return found


def passed_over(folder: str | os.PathLike) -> str:
    """The suffixes of files in `folder` and below it that count as no images, in words; '' for none."""
    suffixes = Counter(
        path.suffix.lower() or "none"
        for path in Path(folder).rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in IMAGE_SUFFIXES
    )
    if not suffixes:
        return ""
    found = ", ".join(
        f"{suffix} ({count})"
        for suffix, count in sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    )
    advice = f"; {_HEIF_ADVICE}" if any(suffix in suffixes for suffix in _HEIF_SUFFIXES) else ""
    return f"; passed over by their suffixes: {found}; images are {', '.join(IMAGE_SUFFIXES)}{advice}"


def pillow_image(file: str | os.PathLike | IO[bytes]):
    """
    Open an image file by Pillow, for a ``with`` statement; nothing else of cnnlib calls ``Image.open``.

    Only the formats of `IMAGE_SUFFIXES` are tried, whatever the file is called. Pillow decodes these itself.
    For others it starts programs: an EPS file, also one that is called ``.png``, is a program that
    Ghostscript runs.

    Raises ``PIL.UnidentifiedImageError`` for a file of another format, and whatever Pillow raises for a
    damaged one.
    """
    from PIL import Image

    return Image.open(file, formats=_FORMATS)


def open_image(
    file: str | os.PathLike | IO[bytes], draft: int | None = None, *, most_pixels: int | None = None
):
    """An image file as a Pillow image, decoded, upright, in mode L or RGB: eight bits a channel.

    Where it is transparent it becomes white. What a white pixel is follows from the file's kind, never from
    its brightest pixel: 65535 in 16-bit grey, 1 in floating-point pixels. With `draft` a JPEG may be decoded
    at a half, a quarter or an eighth of its size, as long as both sides keep that many pixels: much faster
    for photographs.

    `file` may be open, and have a `name`. `most_pixels` is for files that are not trusted: a larger image is
    refused before it is decoded.

    FileNotFoundError, or ValueError if it is none of the formats of `IMAGE_SUFFIXES`, damaged, or its pixels
    are integers of 32 bits, NaN, floats outside of [0, 1], or of more than eight bits with 0 for white; the
    message names it.
    """
    from PIL import ImageOps, UnidentifiedImageError

    name = getattr(file, "name", "the image") if hasattr(file, "read") else file
    try:
        # Of a path Pillow maps pixels that are not compressed, with the sizes of the image that is upright.
        with (
            open(file, "rb")
            if isinstance(file, (str, os.PathLike))
            else contextlib.nullcontext(file) as source,
            pillow_image(source) as opened,
        ):
            width, height = opened.size
            if most_pixels is not None and width * height > most_pixels:
                raise ValueError(f"{width} x {height} pixels are more than {most_pixels / 1e6:g} million")
            if draft is not None:
                opened.draft(None, (draft, draft))
            white = _white(opened)
            image = ImageOps.exif_transpose(opened)
            image.load()
            return _eight_bits(image, white)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {name}") from None
    except UnidentifiedImageError:  # its text names the object
        formats = ", ".join(_FORMATS)
        advice = f"; {_HEIF_ADVICE}" if _is_heif(file) else ""
        raise ValueError(f"{name} cannot be read as an image: it is none of {formats}{advice}") from None
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"{name} cannot be read as an image: {error}") from error


def _is_heif(file):
    """Say whether a file, or the one that a path names, begins like HEIC or HEIF."""
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as opened:
            return _is_heif(opened)
    file.seek(0)
    return file.read(_BRAND.stop)[_BRAND] in _HEIF_BRANDS


def is_grey(path: str | os.PathLike) -> bool:
    """Whether an image file has no colours, by its header; False for what is no image."""
    try:
        with pillow_image(path) as file:
            return file.mode in ("1", "L", "LA") or file.mode.startswith(("I", "F"))
    except Exception:  # a damaged file can raise nearly anything
        return False


def upright_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Width and height of an image file, turned upright, by its header; None for what is no image."""
    try:
        with pillow_image(path) as file:
            turned = "exif" in file.info and file.getexif().get(_ORIENTATION, 1) > 4
            return file.size[::-1] if turned else file.size
    except Exception:  # a damaged file can raise nearly anything
        return None


def photo(
    file: str | os.PathLike | IO[bytes], size: tuple[int, int], channels: int, most_pixels: int | None = None
) -> np.ndarray:
    """A photograph as uint8 (C, H, W): scaled, and cropped around its middle, to `size` (H, W).

    `channels` is 3 for red, green and blue, 1 for grey; the rest is as in :func:`open_image`.
    """
    from PIL import Image, ImageOps

    H, W = size
    image = open_image(file, draft=2 * max(H, W), most_pixels=most_pixels)
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (W, H):
        image = ImageOps.fit(image, (W, H), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image).reshape(H, W, channels).transpose(2, 0, 1))


def _white(file):
    """The value of a white pixel in an image file of more than eight bits a channel; None for the others."""
    if not file.mode.startswith(("I", "F")):
        return None
    tags = getattr(file, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == 0:  # which Pillow heeds in eight bits alone
        raise ValueError("its white is 0, which is not read of more than eight bits")
    if file.mode == "F":
        return 1.0
    # Pillow's mode I holds 32-bit integers, and grey of 16 bits in older versions and of some formats.
    if tags.get(_BITS_PER_SAMPLE, (16,))[0] > 16:
        raise ValueError("its pixels are integers of 32 bits, of which none is known to be white")
    return 65535.0


def _eight_bits(image, white):
    """`image` in grey or colours of eight bits a channel, and white where it is transparent."""
    from PIL import Image

    if white is not None:  # Pillow would cut these off at 255 instead of scaling them
        return Image.fromarray(np.uint8(255 * _shares(image, white) + 0.5))
    if "A" in image.getbands() or "transparency" in image.info:
        grey = image.mode == "LA"
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _shares(image, white):
    """The brightness of each pixel in [0, 1]."""
    values = np.asarray(image, dtype=np.float64) / white
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds NaN or infinity")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        low, high = low * white, high * white
        raise ValueError(f"its pixels must lie between 0 and {white:g} (white), got {low:g} to {high:g}")
    return np.clip(values, 0, 1)

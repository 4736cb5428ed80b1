"""Image files as arrays; reading them is Pillow's work (``pip install cnnlib[images]``)."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

__all__ = ["IMAGE_SUFFIXES", "find_images", "is_grey", "needs_pillow", "open_image", "photo"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def needs_pillow(where: str) -> None:
    """ImportError that names the extra, if Pillow is not installed."""
    if importlib.util.find_spec("PIL") is None:
        raise ImportError(f"{where} needs Pillow: pip install cnnlib[images]")


def find_images(folder: str | os.PathLike, *, deep: bool = False) -> list[Path]:
    """The image files in `folder` by their suffixes, sorted; with `deep` in the folders below it too.

    Hidden files and folders are passed over.
    """
    found = []
    for path in sorted(Path(folder).iterdir(), key=lambda path: path.name):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += find_images(path, deep=True) if deep else []
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path)
    return found


def open_image(path: str | os.PathLike, draft: int | None = None):
    """An image file as a Pillow image, decoded, upright, with at most eight bits a channel.

    Where it is transparent it becomes white. With `draft` a JPEG may be decoded at a half, a quarter or an
    eighth of its size, as long as both sides keep that many pixels: much faster for photographs.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file; it is no image, or damaged. The message names it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            if draft is not None:
                file.draft(None, (draft, draft))
            image = ImageOps.exif_transpose(file)
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path}") from None
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return _eight_bits(image)


def is_grey(path: str | os.PathLike) -> bool:
    """Whether an image file has no colours, by its header; False for what is no image."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return file.mode in ("1", "L", "LA") or file.mode.startswith(("I", "F"))
    except Exception:  # a damaged file can raise nearly anything
        return False


def photo(path: str | os.PathLike, size: tuple[int, int], channels: int) -> np.ndarray:
    """A photograph as uint8 (C, H, W): scaled, and cropped around its middle, to `size` (H, W).

    `channels` is 3 for red, green and blue, 1 for grey.
    """
    from PIL import Image, ImageOps

    H, W = size
    image = open_image(path, draft=2 * max(H, W))
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (W, H):
        image = ImageOps.fit(image, (W, H), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image).reshape(H, W, channels).transpose(2, 0, 1))


def _eight_bits(image):
    """`image` with at most eight bits a channel, and white where it is transparent."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # Pillow would cut these off at 255 instead of scaling them
        values = np.asarray(image, dtype=np.float64)
        full = 65535 if image.mode.startswith("I") and values.max(initial=0) > 255 else 255
        return Image.fromarray(np.uint8(np.clip(values / full, 0, 1) * 255 + 0.5))
    if "A" in image.getbands() or "transparency" in image.info:
        grey = image.mode == "LA"
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("L" if grey else "RGB")
    return image

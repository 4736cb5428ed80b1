"""``cnnlib predict``: the class of image files."""

import argparse
from pathlib import Path

import numpy as np

import cnnlib
from cnnlib._text import display_width, padded, printable
from cnnlib.cli.options.arguments import add_run, add_threads, positive_int
from cnnlib.cli.output import json_text
from cnnlib.cli.run.trained import open_trained
from cnnlib.data.image_files import find_images, needs_pillow, open_image, photo
from cnnlib.plots import softmax

_INK = 0.2  # of full brightness: what counts as part of a digit
_BATCH_VALUES = 2**22  # of images that are read together


def add_to(commands):
    """Add the command and its options."""
    predict = commands.add_parser(
        "predict",
        help="classes of image files",
        description="Print the class of each image file and its probability. Photographs are cropped to the "
        "middle and scaled to the model's input; writing, dark on bright or bright on dark, to its ink.",
    )
    predict.set_defaults(execute=run)
    add_run(predict)
    predict.add_argument(
        "images", nargs="+", metavar="FILE|DIR", help="PNG, JPEG or what else Pillow reads; folders of these"
    )
    predict.add_argument(
        "--top", type=positive_int, default=1, metavar="K", help="print the K likeliest classes"
    )
    predict.add_argument(
        "--ink",
        action=argparse.BooleanOptionalAction,
        help="whether the images are scans of writing; default: as the model's training images were",
    )
    predict.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_threads(predict)


def run(options):
    """Run the subcommand; returns the exit status."""
    if options.threads is not None:
        cnnlib.set_num_threads(options.threads)
    trained = open_trained(options.run)
    needs_pillow("cnnlib predict")
    ink = trained.normalization.ink if options.ink is None else options.ink
    if ink and trained.shape[0] != 1:
        raise ValueError(f"--ink: writing is grey; the model's images have the shape {trained.shape}")
    # All images first: a wrong name among many stops the command before it prints half of them.
    paths = _files(options.images)
    probabilities = _probabilities(trained, paths, ink)
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, : options.top]
    predictions = [
        [(trained.classes[k], float(probability[k])) for k in best]
        for probability, best in zip(probabilities, likeliest, strict=True)
    ]
    (_print_json if options.json else _print_table)(paths, predictions)
    return 0


def _files(names):
    """The files that are named, and those in the folders that are, as they are to be shown."""
    paths = []
    for name in names:
        if Path(name).is_dir():
            found = find_images(name, deep=True)
            if not found:
                raise ValueError(f"there are no images in {name}")
            paths += map(str, found)
        else:
            paths.append(name)
    return paths


def _probabilities(trained, paths, ink):
    """Of each image (rows) for each class; no more images are held than a batch needs."""
    step = max(1, _BATCH_VALUES // int(np.prod(trained.shape)))
    white = 1.0 if ink else 255.0
    parts = []
    for start in range(0, len(paths), step):
        images = np.stack([read_image(path, trained.shape, ink) for path in paths[start : start + step]])
        parts.append(softmax(trained.scores(images, white, trained.tta)))
    return np.concatenate(parts)


def _print_table(paths, predictions):
    paths = [f"{printable(path)}:" for path in paths]
    rows = [[(printable(name), value) for name, value in row] for row in predictions]
    width = max(map(display_width, paths))
    longest = max(display_width(name) for row in rows for name, _ in row)
    pad = longest if len(rows) > 1 else 0
    for path, row in zip(paths, rows, strict=True):
        print(
            f"{padded(path, width)} " + ", ".join(f"{padded(name, pad)} {value:.4f}" for name, value in row)
        )


def _print_json(paths, predictions):
    rows = [
        {"file": path, "predictions": [{"class": name, "probability": value} for name, value in row]}
        for path, row in zip(paths, predictions, strict=True)
    ]
    print(json_text(rows))


def read_image(path, shape, ink):
    """An image file as a model's images of that `shape` come: (C, H, W), not yet normalised.

    Without `ink` it is a photograph, uint8, cropped around its middle and scaled. Writing (float32 in [0, 1])
    may be dark on bright or bright on dark; unless it has the right size already, it is cropped to the ink,
    and scaled so that it fills the image, as the published digits do.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or is no image; the message names it.
    """
    C, H, W = shape
    if ink:
        return _writing(open_image(path).convert("L"), H, W)[None]
    return photo(path, (H, W), C)


def _writing(image, H, W):
    """A grey image of a character as float32 (H, W) in [0, 1], bright ink on a dark ground."""
    from PIL import Image

    pixels = np.asarray(image, dtype=np.float32) / 255
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(edge) > 0.5:
        pixels = 1 - pixels
    if pixels.shape == (H, W):
        return pixels
    rows, columns = np.flatnonzero((pixels > _INK).any(axis=1)), np.flatnonzero((pixels > _INK).any(axis=0))
    if len(rows) == 0:
        return np.zeros((H, W), dtype=np.float32)
    ink = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A square (or H : W) ground that the longer side of the ink fills.
    scale = max(ink.shape[0] / H, ink.shape[1] / W)
    height, width = max(round(scale * H), ink.shape[0]), max(round(scale * W), ink.shape[1])
    ground = np.zeros((height, width), dtype=np.float32)
    top, left = (height - ink.shape[0]) // 2, (width - ink.shape[1]) // 2
    ground[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    # Box filter: the published digits are counts of inked dots in blocks.
    return np.asarray(Image.fromarray(ground).resize((W, H), Image.Resampling.BOX))

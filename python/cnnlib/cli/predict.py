"""``cnnlib predict``: classes, numbers, masks or objects of image files."""

import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import cnnlib
from cnnlib._system.ahead import in_order
from cnnlib._system.packages import required
from cnnlib._system.text import csv_text, display_width, padded, printable
from cnnlib.cli.options.arguments import (
    add,
    add_model,
    add_prepared,
    add_setting,
    add_skip_unreadable,
    add_threads,
)
from cnnlib.cli.options.objects import add_limits, limits_of, refuse_meaningless
from cnnlib.cli.output import json_text, say, say_left_out
from cnnlib.cli.report.pictures import colours
from cnnlib.cli.run.trained import open_prepared
from cnnlib.data.image_files import find_images, open_image, passed_over, photo
from cnnlib.data.writing import ink_of
from cnnlib.detection import Detector, draw
from cnnlib.runs.folder import refuse_within

_OPACITY = 0.5  # of a mask over its photo
_BATCH_VALUES = 2**22  # of images that are read together
_PHOTOS = 4  # most that are held at their own size, where objects are drawn into them


def add_to(commands):
    predict = commands.add_parser(
        "predict",
        help="classes, numbers, masks or objects of image files",
        description="Print the class of each image file and its probability, or its numbers as CSV, or write "
        "its mask, and that over the photo, or draw the objects in it. Photographs are cropped to the "
        "middle and scaled to the model's input; writing, dark on bright or bright on dark, to its ink.",
    )
    add_model(predict)
    add_prepared(predict)
    add(predict, "images FILE|DIR", "PNG, JPEG or what else Pillow reads; folders of these", nargs="+")
    add_setting(predict, "top", "count", "print the N likeliest classes", 1)
    about = "where images of pixels, or photos with their objects, are written; default: predictions"
    add(predict, "--out FOLDER", about)
    add_limits(predict)
    add_skip_unreadable(predict)
    add(predict, "--json", "print JSON instead of a table; objects are then drawn only with --out")
    add_threads(predict)


def run(options):
    trained = open_prepared(options)
    required("PIL", "cnnlib predict", "Pillow", "images")
    refuse_meaningless(
        trained.task,
        options,
        ("--top", options.top != 1, ("classes",)),
        ("--out", options.out is not None, ("pixels", "objects")),
        ("--json", options.json, ("classes", "values", "objects")),
    )
    paths = _files(options.images)
    faults: list[str] | None = [] if options.skip_unreadable else None
    if trained.task == "pixels" or _draws(trained, options):
        if trained.gives_labels and len(trained.classes) > 256:
            raise ValueError(f"a mask's file holds 256 labels, the model has {len(trained.classes)}")
        _refuse_clashes(paths, _folder(options), _endings(trained))
        for name in filter(lambda name: Path(name).is_dir(), options.images):
            refuse_within(_folder(options), name)
    if trained.task == "objects":
        _predict_objects(trained, paths, faults, options)
    else:
        predict = {"classes": _predict_classes, "values": _predict_numbers, "pixels": _predict_pixels}
        predict[trained.task](trained, _batches(trained, paths, faults), options)
    say_left_out(faults or [])
    return 0


def _predict_classes(trained, batches, options):
    """Print the likeliest classes of each image."""
    kept, parts = [], [np.empty((0, len(trained.classes)))]
    for names, images in batches:
        kept.extend(names)
        parts.append(trained.probabilities(images))
    # All first: a wrong name among many stops the command before it prints half of them.
    found = likeliest(np.concatenate(parts), trained.classes, options.top)
    if options.json:
        print(json_text(json_rows(kept, found)))
    elif kept:
        _print_table(kept, found)


def _predict_numbers(trained, batches, options):
    """Print the numbers of each image."""
    if options.json and len(set(trained.classes)) < len(trained.classes):  # one would replace the other
        raise ValueError(f"--json: two numbers have one name: {', '.join(map(repr, trained.classes))}")
    rows = [
        (name, row)
        for names, images in batches
        for name, row in zip(names, trained.scores(images, 255.0, trained.tta).tolist(), strict=True)
    ]
    if options.json:
        named = ((name, dict(zip(trained.classes, row, strict=True))) for name, row in rows)
        print(json_text([{"file": name, "values": values} for name, values in named]))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", *map(csv_text, trained.classes)])
    writer.writerows([csv_text(name), *(f"{value:.9g}" for value in row)] for name, row in rows)


def _draws(trained, options):
    """Say whether photos are written with their objects."""
    return trained.task == "objects" and (options.out is not None or not options.json)


def _predict_objects(trained, paths, faults, options):
    """Print the objects in each image, and draw them."""
    from PIL import Image

    detector = Detector(trained.model, **limits_of(options))
    rows, count = [], 0

    def read(path):
        photo = detector.read(path)
        return photo, *detector.framed(photo)

    step = min(_PHOTOS, _step(trained))
    for names, photos in _read(read, paths, step, faults, ahead=step):
        raws = detector.outputs(np.stack([framed for _, framed, _ in photos]))
        for name, raw, (pixels, _, placement) in zip(names, raws, photos, strict=True):
            found = detector.objects(raw, placement)
            if options.json:
                rows.append(json_objects(name, found))
            else:
                _print_objects(name, found)
            if _draws(trained, options):
                _folder(options).mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(draw(pixels, found).transpose(1, 2, 0))
                picture.save(_folder(options) / f"{Path(name).stem}.png")
                count += 1
    if options.json:
        print(json_text(rows))
    elif count:
        say(f"{count} file{'s' * (count > 1)} in {_folder(options)}", fold=False)


def json_objects(name, found):
    """The objects of the image of this name, as ``--json`` prints them."""
    return {"file": name, "objects": found.described()}


def _print_objects(name, found):
    """Print a line for each object of an image."""
    name = printable(name)
    if not len(found):
        print(f"{name}: nothing")
    for label, score, box in zip(found.labels, found.scores.tolist(), found.boxes.tolist(), strict=True):
        x1, y1, x2, y2 = (round(edge) for edge in box)
        print(f"{name}: {printable(label)} {score:.4f}, x {x1} to {x2}, y {y1} to {y2}")


def _folder(options):
    """Where images are written to."""
    return Path("predictions" if options.out is None else options.out)


def _endings(trained):
    """Endings of the files written for an image: none, and '-over' for a mask over the photo."""
    return ("", "-over") if trained.gives_labels else ("",)


def _refuse_clashes(paths, folder, endings):
    """Refuse images whose predictions would have one name, or replace one of them or its own mask."""
    names = Counter(f"{Path(path).stem}{ending}.png" for path in paths for ending in endings)
    for name, times in names.items():
        if times > 1:
            raise ValueError(f"two predictions would be called {name}; images need names of their own")
    for path in paths:
        if Path(path).name in names and Path(path).resolve().parent == folder.resolve():
            raise ValueError(f"a prediction would replace the image {path}: name another folder with --out")
        mask, *others = (folder / f"{Path(path).stem}{ending}.png" for ending in endings)
        if others and mask.exists() and not others[0].exists():  # no mask of an earlier prediction
            raise ValueError(f"a prediction would replace {mask}: name another folder with --out")


def _predict_pixels(trained, batches, options):
    """Write an image for each, and a mask over the photo too, to the folder --out."""
    folder, count = _folder(options), 0
    for names, images in batches:
        folder.mkdir(parents=True, exist_ok=True)
        maps = trained.scores(images, 255.0, trained.tta)
        for name, image, scores in zip(names, images, maps, strict=True):
            pictures = zip(_endings(trained), _pictures(image, scores, trained.gives_labels), strict=True)
            for ending, picture in reversed(list(pictures)):  # a mask alone counts as somebody's
                picture.save(folder / f"{Path(name).stem}{ending}.png")
                count += 1
    say(f"{count} files in {folder}", fold=False)


def _pictures(image, scores, labels):
    """A mask, and the photo below it, or an image of values in [0, 1]."""
    from PIL import Image

    if not labels:
        pixels = (255 * np.clip(scores, 0, 1) + 0.5).astype(np.uint8)
        if len(pixels) not in (1, 3):
            raise ValueError(f"an image has 1 or 3 channels, the model gives {len(pixels)}")
        yield Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        return
    mask = scores.argmax(axis=0).astype(np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette(colours(np.arange(256, dtype=np.uint8)[None])[0].tobytes())
    yield picture
    ground = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    over = np.where(mask[..., None] > 0, (1 - _OPACITY) * ground + _OPACITY * colours(mask), ground)
    yield Image.fromarray((over + 0.5).astype(np.uint8))


def likeliest(probabilities, classes, top):
    """The `top` likeliest classes of each image, as pairs of name and probability."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(classes[k], float(row[k])) for k in best] for row, best in zip(probabilities, order, strict=True)
    ]


def json_rows(names, predictions):
    """What `likeliest` returns for the images of these names, as ``--json`` prints it."""
    return [
        {"file": name, "predictions": [{"class": label, "probability": value} for label, value in row]}
        for name, row in zip(names, predictions, strict=True)
    ]


def _files(names):
    """The files that are named, and those in the folders that are, as they are to be shown."""
    paths: list[str] = []
    for name in names:
        if Path(name).is_dir():
            found = find_images(name, deep=True)
            if not found:
                raise ValueError(f"there are no images in {name}{passed_over(name)}")
            paths += map(str, found)
        else:
            paths.append(name)
    return paths


def _batches(trained, paths, faults):
    """The images that a model is to see, some at a time: their paths, and an array (N, C, H, W)."""
    for kept, images in _read(lambda path: read_image(path, trained), paths, _step(trained), faults):
        yield kept, np.stack(images)


def _step(trained):
    """How many images are read together."""
    return max(1, _BATCH_VALUES // int(np.prod(trained.shape)))


def _read(read, paths, step, faults, ahead=None):
    """`step` paths at a time, and what ``read(path)`` makes of each; `ahead` is as in `in_order`.

    What cannot be read is an error, or, where `faults` is a list, left out and noted there.
    """

    def tried(path):
        try:
            return read(path)
        except (OSError, ValueError) as error:
            if faults is not None:
                return error
            if isinstance(error, ValueError):
                raise ValueError(f"{error}; --skip-unreadable leaves such files out") from error
            raise

    found = in_order(tried, paths, cnnlib.get_num_threads(), ahead)
    for start in range(0, len(paths), step):
        kept, images = [], []
        for path, image in zip(paths[start : start + step], found):
            if isinstance(image, Exception):
                faults.append(str(image))
            else:
                images.append(image)
                kept.append(path)
        if images:
            yield kept, images


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


def read_image(file, trained, most_pixels=None):
    """An image file as the model's images come: (C, H, W), not yet normalised.

    `file`, `most_pixels` and the errors are those of :func:`cnnlib.data.image_files.open_image`. Unless the
    model tells writing apart, it is a photograph, uint8, cropped around its middle and scaled. Writing
    (float32 in [0, 1]) may be dark on bright or bright on dark; unless it has the right size already, it is
    cropped to the ink, and scaled so that it fills the image, as the published digits do.
    """
    C, H, W = trained.shape
    if trained.normalization.ink and trained.task == "classes":
        return ink_of(open_image(file, most_pixels=most_pixels).convert("L"), H, W)[None]
    return photo(file, (H, W), C, most_pixels)

"""``cnnlib predict``: the class of image files."""

import numpy as np

import cnnlib
from cnnlib.cli import networks
from cnnlib.cli.arguments import add_run, add_threads, positive_int
from cnnlib.cli.runs import Run
from cnnlib.plots import softmax

_INK = 0.2  # of full brightness: what counts as part of a digit


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
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG or what else Pillow reads")
    predict.add_argument(
        "--top", type=positive_int, default=1, metavar="K", help="print the K likeliest classes"
    )
    add_threads(predict)


def run(options):
    """Run the subcommand; returns the exit status."""
    if options.threads is not None:
        cnnlib.set_num_threads(options.threads)
    run = Run.open(options.run)
    model = run.load_model(options.run, "best")
    data_set = run.data_set
    # All images first: a wrong name among many stops the command before it prints half of them.
    images = np.stack([read_image(path, data_set) for path in options.images])
    probabilities = softmax(networks.scores_of(model, run.preprocessing.apply(images), tta=run.tta))
    for path, probability in zip(options.images, probabilities, strict=True):
        best = np.argsort(-probability, kind="stable")[: options.top]
        print(f"{path}: " + ", ".join(f"{data_set.classes[k]} {probability[k]:.4f}" for k in best))
    return 0


def read_image(path, data_set):
    """An image file as a data set's images are: float32 (C, H, W), not yet preprocessed.

    A photograph is cropped to the shape of the data set's images around its middle, and scaled. Writing
    (a grey data set) may be dark on bright or bright on dark; unless it has the right size already, it is
    cropped to the ink, and scaled so that it fills the image, as the published digits do.

    Raises
    ------
    ImportError
        Pillow is not installed.
    OSError, ValueError
        The file cannot be read, or is no image; the message names it.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("cnnlib predict needs Pillow: pip install cnnlib[images]") from error
    C, H, W = data_set.shape
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    image = _eight_bits(image)
    if data_set.ink:
        pixels = _writing(image.convert("L"), H, W)[None]
    else:
        image = ImageOps.fit(image.convert("RGB" if C == 3 else "L"), (W, H), Image.Resampling.LANCZOS)
        pixels = np.asarray(image, dtype=np.float32).reshape(H, W, C).transpose(2, 0, 1) / 255
    return np.ascontiguousarray(pixels * np.float32(data_set.full), dtype=np.float32)


def _eight_bits(image):
    """`image` with at most eight bits a channel, and white where it is transparent."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # Pillow would cut these off at 255 instead of scaling them
        values = np.asarray(image, dtype=np.float64)
        full = 65535 if image.mode.startswith("I") and values.max(initial=0) > 255 else 255
        return Image.fromarray(np.uint8(np.clip(values / full, 0, 1) * 255 + 0.5))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image


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

"""Trained models that the commands read: a run's, or one in a file of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cnnlib
from cnnlib import _core, inference
from cnnlib.cli.options.settings import pixels
from cnnlib.cli.output import complain
from cnnlib.data import Normalization
from cnnlib.data.array_files import read_names
from cnnlib.data.normalization import NORMALIZATIONS
from cnnlib.inference.scoring import BatchScorer, scorer
from cnnlib.layers import softmax
from cnnlib.models.graph_model import input_dim_of
from cnnlib.models.spec.reading import COLOURS
from cnnlib.runs.data_sets import DATA_SETS, OF_FILES, PARTS, DataSet, parse_data
from cnnlib.runs.folder import Run
from cnnlib.saved_model.kinds import found_in, kind_of
from cnnlib.saved_model.model_file import is_saved_model, read_model

_FILES = {
    "onnx": ("an ONNX file", lambda path: cnnlib.onnx.load(path)),
    "predictor": ("a predictor", inference.load),
}
_UNREAD = ("pickle", "empty", "unknown")
_EXPECTED = "a run's folder, a checkpoint in it, a saved model, a Predictor, ONNX or safetensors"
CALIBRATION = 500  # images that calibrate eight bits
_SHARES = {"validation": 0.1, "test": 0.1}  # load_image_folder's
_ADVICE = "save it from a model with a cnnlib.data.Normalization"
_WHITE = {"folder": 255.0, "cifar100": 255.0}  # arrays count as what the model was trained on


@dataclass(frozen=True)
class Trained:
    """A trained model with what is known of its images.

    Attributes
    ----------
    model : object
        A model, or a Predictor.
    normalization : Normalization
    classes : tuple of str
    shape : (int, int, int)
        C, H, W of its images.
    tta : str or None
        See :func:`cnnlib.augment.averaged_scores`.
    load : callable
        ``load(data, split)``: images as they come and their labels, of a split or of 'all', as a list of
        (X, y), and the value of their white pixels; `data` is what ``--data`` says, or None.
    task : str
        'classes', 'values', 'pixels' or 'objects'.
    gives_labels : bool
        Whether pixels have scores of labels, rather than colours.
    """

    model: Any
    normalization: Normalization
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    tta: str | None
    load: Callable[[str | None, str], tuple[list[tuple[np.ndarray, np.ndarray]], float]]
    task: str = "classes"
    gives_labels: bool = True

    @functools.cached_property
    def _scores(self):
        return scorer(self.model)

    def scores(self, X, white, tta):
        """Scores (N, K) of images as they come, whose white pixels have that value."""
        return BatchScorer(self._scores, functools.partial(self._normalized, white), tta).all(X)

    def _normalized(self, white, X):
        factor = np.float32(self.normalization.white / white)
        return self.normalization(X if factor == 1 else X * factor)

    def prepared(self, precision, data, split="train"):
        """This model prepared in a precision, for 'int8' calibrated by images of a split.

        `data` is what ``--data`` says, or None.
        """
        if isinstance(self.model, inference.Predictor):
            option = "--int8" if precision == "int8" else f"--precision {precision}"
            raise ValueError(f"{option}: the file is a predictor, which is prepared already")
        twin = self._eight_bits(data, split) if precision == "int8" else self._of_floats(precision)
        twin.preprocess = self.normalization
        if self.task != "objects":  # whose head has the names
            twin.classes = self.classes
        return replace(self, model=twin)

    def _of_floats(self, precision):
        """The Predictor of 'float32' or 'bfloat16'."""
        if precision == "bfloat16" and _core.active_bfloat16() is None:
            complain("this processor has no instructions for bfloat16: float32 computes, with its weights")
        return inference.prepare(self.model, precision=precision)

    def _eight_bits(self, data, split):
        """The Predictor of eight bits."""
        if self.task == "objects":
            raise ValueError(
                "--int8: data sets with boxes are not read here; cnnlib.prepare(net, precision='int8', "
                "calibration=images) makes a Predictor of eight bits, and this command reads its save(path)"
            )
        pairs, white = self.load(data, split)
        if not pairs:
            raise ValueError("--int8: there is no training split to calibrate with")
        images = self._normalized(white, calibration_images(pairs[0][0]))
        return inference.prepare(self.model, precision="int8", calibration=images)

    def probabilities(self, X):
        """Probabilities (N, K), float64, of images as `cnnlib.cli.predict.read_image` makes them."""
        scores = self.scores(X, 1.0 if self.normalization.ink else 255.0, self.tta)
        scores = np.asarray(scores, np.float64)
        return scores if self.model.gives_probabilities else softmax(scores)


def calibration_images(X):
    """CALIBRATION images from all over X, which may be sorted by class."""
    return X[np.linspace(0, len(X) - 1, min(len(X), CALIBRATION)).astype(int)]


def given_normalization(options):
    """Return the Normalization of --mean and --std; None for neither."""
    if (options.mean is None) != (options.std is None):
        raise ValueError("--mean and --std go together")
    return None if options.mean is None else Normalization(options.mean, options.std)


def open_model(options):
    """Open what the options of :func:`cnnlib.cli.options.arguments.add_unsaid`, or `add_model`, name."""
    normalization = given_normalization(options)
    classes = None if options.classes is None else read_names(Path(options.classes))
    advice = f"give --mean and --std (of pixels 0..255), or {_ADVICE}"
    network = network_options(options)
    trained = open_trained(options.run, options.which, normalization, classes, advice, network)
    if getattr(options, "ink", None) is None:
        return trained
    if trained.task != "classes":
        raise ValueError(f"--ink means nothing to a model of {trained.task}")
    if options.ink and trained.shape[0] != 1:
        raise ValueError(f"--ink: writing is grey; the model's images have the shape {trained.shape}")
    known = trained.normalization
    return replace(trained, normalization=Normalization(known.mean, known.std, known.white, options.ink))


def precision_of(options):
    """Return what ``--precision`` or ``--int8`` says; None for neither."""
    if options.int8 and options.precision not in (None, "int8"):
        raise ValueError(f"--int8 and --precision {options.precision} exclude each other")
    return "int8" if options.int8 else options.precision


def open_prepared(options):
    """Open it like :func:`open_model`, prepared in the precision that the options name, if they do."""
    precision = precision_of(options)
    if options.data is not None and precision != "int8":
        raise ValueError("--data is for --int8")
    trained = open_model(options)
    return trained if precision is None else trained.prepared(precision, options.data)


def network_options(options):
    """Return ``--network`` and ``--image-size`` of safetensors as (name, (H, W)); None where not given."""
    return options.network, None if options.image_size is None else pixels(options.image_size)


def read_arrays(path, network):
    """The network of the parameters in a safetensors file; `network` is that of :func:`network_options`."""
    from cnnlib.pretrained.trunk import network_of_arrays  # takes time, which other files need not

    name, size = network
    return network_of_arrays(str(path), size, name)


def refuse_network(path, network):
    """ValueError where ``--network`` or ``--image-size`` is given for what says its network itself."""
    if any(network):
        raise ValueError(f"--network and --image-size: {path} says itself of which network it is")


def open_trained(path, which="best", normalization=None, classes=None, advice=_ADVICE, network=(None, None)):
    """The model in a run's folder, in a checkpoint there, or in a file of its own.

    That is one of a model's ``save`` or of ``Predictor.save``, or an ONNX file. For a file
    that does not say it, `normalization` is what its images go through and `classes` are its classes' names;
    `advice` says what to do where the first is not known, `network` of which network safetensors are, by its
    name and the size of its images.
    """
    file = Path(path)
    if file.is_file():
        kind = kind_of(file)
        if kind == "safetensors":
            read = functools.partial(read_arrays, network=network)
            return _of_file(path, which, "a safetensors file", read, normalization, classes, advice)
        refuse_network(path, network)
        if kind in _UNREAD:
            raise ValueError(f"{path} {found_in(str(path), kind)}; expected {_EXPECTED}")
        if kind in _FILES or is_saved_model(file) or not file.with_name("config.json").exists():
            words, read = _FILES.get(kind, ("a saved model", read_model))
            return _of_file(path, which, words, read, normalization, classes, advice)
    if not file.exists() and file.suffix:
        raise FileNotFoundError(f"there is no file {path}")
    refuse_network(path, network)
    _refuse_twice(path, "--mean and --std", "how its images are normalised", normalization)
    _refuse_twice(path, "--classes", "how its classes are called", classes)
    return _of_run(path, which)


def _refuse_twice(path, option, what, given):
    if given is not None:
        raise ValueError(f"{option}: {path} says itself {what}")


def _of_run(path, which):
    run = Run.open(path)
    found = run.data_set

    def load(data, split):
        any_images = split == "all"
        return _pairs(lambda parts: run.load_data(data, parts, any_images), split), found.white

    model, labels = run.load_model(path, which), run.config.source.labels is not False
    return Trained(model, run.normalization, run.classes, found.shape, run.tta, load, found.task, labels)


def refuse_which(which, path, kind):
    """ValueError where ``--which`` is given for what has the parameters of one epoch, in words `kind`."""
    if which != "best":
        raise ValueError(f"--which {which}: {path} is {kind}, which has the parameters of one epoch")


def _of_file(path, which, kind, read, normalization, classes, advice):
    refuse_which(which, path, kind)
    model = read(path)
    if model.preprocess is not None:
        _refuse_twice(path, "--mean and --std", "how its images are normalised", normalization)
        normalization = model.preprocess
    if normalization is None and model.detection is not None:
        normalization = NORMALIZATIONS["unit"]
    if normalization is None:
        raise ValueError(
            f"{path} was saved without preprocess, so how its images are normalised is not known: {advice}"
        )
    shape = input_dim_of(model)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"{path}: the model takes arrays of shape {shape}, not images (C, H, W)")
    if len(normalization.mean) not in (1, shape[0]):
        raise ValueError(f"{path}: images of {shape[0]} channels, but means of {len(normalization.mean)}")
    if model.detection is not None:
        _refuse_twice(path, "--classes", "how its classes are called", classes)
        return _of_objects(path, model, normalization, shape)
    if model.classes is not None:
        _refuse_twice(path, "--classes", "how its classes are called", classes)
        classes = model.classes
    count = _num_classes(path, model)
    classes = tuple(map(str, range(count))) if classes is None else tuple(classes)
    if len(classes) != count:
        raise ValueError(f"--classes: {len(classes)} names for the {count} classes of {path}")
    ink = normalization.ink and model.head == "classes"
    own = DataSet("", classes, shape, normalization.white, _SHARES, model.head, ink)
    load, labels = functools.partial(_load_named, path, kind, own), count > 1 and classes != COLOURS
    return Trained(model, normalization, classes, shape, None, load, model.head, labels)


def _of_objects(path, model, normalization, shape):
    """A network that finds objects, with what its images go through."""
    model.preprocess = normalization

    def load(data, split):
        raise ValueError(f"{path} finds objects, and data sets with boxes are not read here")

    names = model.detection.classes
    return Trained(model, normalization, names, shape, None, load, "objects", gives_labels=False)


def _load_named(path, kind, own, data, split):
    """What `Trained.load` returns of the data set that --data names; `own` is what the model is made for."""
    if data is None:
        raise ValueError(f"{path} is {kind}, which belongs to no data set: name one with --data")
    name, folder = parse_data(data)
    if name in OF_FILES:
        white = 1.0 if name == "folder" and own.ink else _WHITE.get(name, own.white)
        found = replace(own, name=name, white=white)
        if name == "folder" and split != "all":
            made = "images in a folder of that split's, else shares of 0.1 and 0.1, seed 0"
            complain(f"{split} split as load_image_folder makes it by default: {made}")
    else:
        found = DATA_SETS[name]
        if found.shape != own.shape or len(found.classes) != len(own.classes):
            raise ValueError(
                f"{path}: the model takes images {own.shape} of {len(own.classes)} classes; "
                f"those of {name} are {found.shape} of {len(found.classes)}"
            )
    return _pairs(lambda parts: found.load(folder, parts), split), found.white


def _num_classes(path, model):
    """How many scores, numbers or channels the model gives an image."""
    if model.outputs:
        raise ValueError(
            f"{path}: the model has several outputs ({', '.join(model.outputs)}), not one of scores"
        )
    count, *pixels = model.output_shape
    if (pixels and model.head != "pixels") or (count == 1 and model.head == "classes"):
        raise ValueError(f"{path}: the model does not give an image a score for each class")
    return count


def _pairs(load, split):
    """Images and labels of a split, or of each part that has images; ``load(parts)`` reads these."""
    parts = PARTS if split == "all" else (split,)
    data = load(parts)
    return [(data[f"X_{part}"], data[f"y_{part}"]) for part in parts if len(data[f"X_{part}"])]

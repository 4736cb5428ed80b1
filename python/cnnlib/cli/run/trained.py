"""What ``cnnlib eval`` and ``cnnlib predict`` work with: a run's model, or one of ``cnnlib.save_model``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnlib.cli.options import networks
from cnnlib.cli.options.datasets import DATA_SETS, FOUND, found_data_set
from cnnlib.cli.options.settings import parse_data
from cnnlib.cli.run.folder import Run
from cnnlib.data import Normalization
from cnnlib.saved_model import is_saved_model, load_model

__all__ = ["Trained", "open_trained"]

_SHARES = {"validation": 0.1, "test": 0.1}  # load_image_folder's
_WHITE = {"folder": 255.0, "cifar100": 255.0}  # arrays count as what the model was trained on


@dataclass(frozen=True)
class Trained:
    """A trained model with what is known of its images.

    Attributes
    ----------
    model : object
    normalization : Normalization
    classes : tuple of str
    shape : (int, int, int)
        C, H, W of its images.
    tta : str or None
        See :func:`cnnlib.augment.averaged_scores`.
    load : callable
        ``load(data, split)``: images as they come and their labels, of a split or of 'all', as a list of
        (X, y), and the value of their white pixels; `data` is what ``--data`` says, or None.
    """

    model: Any
    normalization: Normalization
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    tta: str | None
    load: Callable[[str | None, str], tuple[list[tuple[np.ndarray, np.ndarray]], float]]

    def scores(self, X, white, tta):
        """Scores (N, K) of images as they come, whose white pixels have that value."""
        factor = np.float32(self.normalization.white / white)

        def preprocess(images):
            return self.normalization(images if factor == 1 else images * factor)

        return networks.scores_of(self.model, X, preprocess, tta)


def open_trained(path, which="best"):
    """The model in a run's folder, in a checkpoint there, or in a file of :func:`cnnlib.save_model`."""
    file = Path(path)
    if file.is_file() and (is_saved_model(file) or not file.with_name("config.json").exists()):
        return _saved(path, which)
    return _of_run(path, which)


def _of_run(path, which):
    run = Run.open(path)
    data_set = run.data_set

    def load(data, split):
        parts = _parts(split)
        return _pairs(run.load_data(data, parts, any_images=split == "all"), parts), data_set.white

    return Trained(
        run.load_model(path, which),
        run.normalization,
        data_set.classes,
        data_set.shape,
        run.tta,
        load,
    )


def _saved(path, which):
    if which != "best":
        raise ValueError(f"--which {which}: {path} is a saved model, which has the parameters of one epoch")
    model = load_model(path)
    if model.preprocess is None:
        raise ValueError(
            f"{path} was saved without preprocess, so what images the model takes is not known; "
            "save_model(..., preprocess=cnnlib.data.Normalization(...)) says it"
        )
    shape = tuple(np.atleast_1d(model.arguments["input_dim"]).tolist())
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"{path}: the model takes arrays of shape {shape}, not images (C, H, W)")
    classes = model.classes or tuple(map(str, range(model.arguments["num_classes"])))

    def load(data, split):
        if data is None:
            raise ValueError(f"{path} is a saved model, which belongs to no data set: name one with --data")
        name, folder = parse_data(data)
        if name in FOUND:
            data_set = found_data_set(name, classes, shape, _WHITE.get(name, model.preprocess.white), _SHARES)
            if name == "folder" and split != "all":
                print(f"{split} split as load_image_folder makes it by default: 0.1, 0.1, seed 0")
        else:
            data_set = DATA_SETS[name]
            if data_set.shape != shape or len(data_set.classes) != len(classes):
                raise ValueError(
                    f"{path}: the model takes images {shape} of {len(classes)} classes; "
                    f"those of {name} are {data_set.shape} of {len(data_set.classes)}"
                )
        parts = _parts(split)
        return _pairs(data_set.load(folder, parts), parts), data_set.white

    return Trained(model, model.preprocess, classes, shape, None, load)


def _parts(split):
    return ("train", "val", "test") if split == "all" else (split,)


def _pairs(data, parts):
    """The parts that have images."""
    return [(data[f"X_{part}"], data[f"y_{part}"]) for part in parts if len(data[f"X_{part}"])]

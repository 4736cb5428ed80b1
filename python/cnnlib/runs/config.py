"""A run's config.json as a dataclass: what the run is, checked when it is read, and written from."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cnnlib
from cnnlib._files.version import check_version
from cnnlib._system.config import current_config
from cnnlib.augment import TTA
from cnnlib.data import Normalization
from cnnlib.runs.data_sets import DATA_SETS, OF_FILES, DataSet, Source
from cnnlib.runs.log import LOG_KINDS
from cnnlib.runs.networks import Network
from cnnlib.runs.tasks import TASKS, Scale

CONFIG = "config.json"
_FORMAT, _VERSION = "cnnlib run", 1
MODEL = "model.npz"  # of a run that began with somebody's network
_VERSIONS = ("cnnlib", "instruction set", "numpy", "python", "platform")


@dataclass(frozen=True)
class RunConfig:
    """The content of a run's config.json.

    Attributes
    ----------
    source : Source
        The images and targets, where they lie, and what they are for.
    classes : tuple of str
        Or the names of the numbers or colours that the model gives.
    normalization : Normalization
        What images go through before the model.
    training : dict
        The settings of the training as the user wrote them, or by default.
    network : Network or None
        The model and the arguments to build it with; None for a run that began with somebody's network.
    began_with : dict or None
        The options of such a run (``--from``), by name.
    scale : Scale or None
        Mean and standard deviation of targets that are numbers, by which they were standardized.
    recipe : str or None
    log : tuple of str
        The kinds of logs.
    ranks, threads : int
    versions : dict
        Of the software.
    """

    source: Source
    classes: tuple[str, ...]
    normalization: Normalization
    training: dict[str, Any]
    network: Network | None = None
    began_with: dict[str, Any] | None = None
    scale: Scale | None = None
    recipe: str | None = None
    log: tuple[str, ...] = ()
    ranks: int = 1
    threads: int = 1
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def data_set(self) -> DataSet:
        """The data set that the source names."""
        return self.source.data_set(self.classes, self.normalization.white)

    @classmethod
    def of_new_run(cls, **about: Any) -> RunConfig:
        """Describe a run that begins now, with the software that runs."""
        software = {**current_config(), "platform": platform.platform()}
        versions = {name: software[name] for name in _VERSIONS}
        return cls(**about, threads=cnnlib.get_num_threads(), versions=versions)

    @classmethod
    def read(cls, file: Path) -> RunConfig:
        """Read a config.json; FileNotFoundError if there is none, ValueError if it is damaged or foreign."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"{file.parent} is not the folder of a run: it has no {CONFIG}") from None
        except (RecursionError, ValueError) as error:
            raise ValueError(f"{file} is damaged: {error}") from error
        if not _is_config(content):
            raise ValueError(f"{file} is not the {CONFIG} of a cnnlib run")
        check_version(file, f"a run's {CONFIG}", content.get("version"), _VERSION)
        _check(file, content)
        source = Source.of(content["data"])
        known = DATA_SETS.get(source.name)
        began, scale = content.get("from"), content.get("targets")
        return cls(
            source=source,
            classes=tuple(content["classes"]) if known is None else known.classes,
            normalization=Normalization(
                **{name: content["preprocessing"][name] for name in ("mean", "std", "white")},
                ink=known is not None and known.ink,
            ),
            training=content["training"],
            network=None if began is not None else Network(**content["model"]),
            began_with=began,
            scale=None if scale is None else Scale(**scale),
            recipe=content["recipe"],
            log=tuple(content["log"]),
            ranks=content["ranks"],
            threads=content["threads"],
            versions=content["versions"],
        )

    def content(self) -> dict[str, Any]:
        """Return what config.json holds, in plain values."""
        network, normalization = self.network, self.normalization
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "preprocessing": {name: getattr(normalization, name) for name in ("mean", "std", "white")},
            "data": self.source.content(),
            **({} if self.scale is None else {"targets": vars(self.scale)}),
            "classes": self.classes,
            "model": {"file": MODEL} if network is None else vars(network),
            "recipe": self.recipe,
            "training": self.training,
            **({} if self.began_with is None else {"from": self.began_with}),
            "ranks": self.ranks,
            "log": self.log,
            "threads": self.threads,
            "versions": self.versions,
        }


def lies_in_run(path: Path | str) -> bool:
    """Return whether the config.json beside a file is a run's, or damaged, and no other program's."""
    file = Path(path).with_name(CONFIG)
    if not file.is_file():
        return False
    try:
        return _is_config(json.loads(file.read_text(encoding="utf-8")))
    except (RecursionError, ValueError):
        return True


def _is_config(content: Any) -> bool:
    return isinstance(content, dict) and content.get("format") == _FORMAT


def _check(file: Path, config: dict[str, Any]) -> None:
    """Refuse a config.json that lacks a part, or has a value that does not fit; ValueError."""
    for part in ("data", "preprocessing", "model", "training"):
        if not isinstance(config.get(part), dict):
            _refuse(file, config, part)
    data, preprocessing, model = config["data"], config["preprocessing"], config["model"]
    began, scale = config.get("from"), config.get("targets")
    name = data.get("name") if isinstance(data.get("name"), str) else ""
    found = name in OF_FILES  # so the file says what images there are
    channels = DATA_SETS[name].shape[0] if name in DATA_SETS else data.get("channels")
    counts = (1, channels)  # a network that others trained may have one mean for all channels
    fits = {
        "data name": name in (*DATA_SETS, *OF_FILES),
        "data folder": isinstance(data.get("folder"), str if found else str | None),
        "data task": "task" not in data or data["task"] in TASKS,
        "data labels": isinstance(data.get("labels"), bool | None),
        "data size": not found or _is_list(data.get("size"), (2,), lambda n: type(n) is int and n > 0),
        "data channels": not found or data.get("channels") in (1, 3),
        "data validation": name != "folder" or _is_number(data.get("validation")),
        "data test": name != "folder" or _is_number(data.get("test")),
        "data skip_unreadable": isinstance(data.get("skip_unreadable", False), bool),
        "data names": isinstance(data.get("names"), str | None),
        "classes": not found or _is_list(config.get("classes"), None, lambda name: isinstance(name, str)),
        "preprocessing mean": _is_list(preprocessing.get("mean"), counts, _is_number),
        "preprocessing std": _is_list(preprocessing.get("std"), counts, lambda x: _is_number(x) and x > 0),
        "preprocessing": _are_as_long(preprocessing.get("mean"), preprocessing.get("std")),
        "preprocessing white": _is_number(preprocessing.get("white")) and preprocessing["white"] > 0,
        "model": began is not None or _describes_network(model),
        "targets": scale is None or _is_scale(scale),
        "training tta": config["training"].get("tta") in (None, *TTA),
        "recipe": "recipe" in config and isinstance(config["recipe"], str | None),
        "log": config.get("log") == [] or _is_list(config.get("log"), None, LOG_KINDS.__contains__),
        "ranks": type(config.get("ranks")) is int,
        "threads": type(config.get("threads")) is int,
        "versions": isinstance(config.get("versions"), dict),
        "from": began is None or (isinstance(began, dict) and _says_the_start(began)),
    }
    for place, is_right in fits.items():
        if not is_right:
            _refuse(file, config, *place.split())


def _refuse(file, config, *place):
    value = config
    for key in place:
        value = value.get(key)
    what = f"{' '.join(place)} {json.dumps(value)[:60]}"
    raise ValueError(f"{file} is damaged: it cannot have {what}")


def _describes_network(model):
    names = model.keys() == {field.name for field in fields(Network)}
    return names and isinstance(model["name"], str) and isinstance(model["arguments"], dict)


def _is_scale(scale):
    names = isinstance(scale, dict) and scale.keys() == {field.name for field in fields(Scale)}
    return names and all(_is_list(values, None, _is_number) for values in scale.values())


def _says_the_start(began):
    texts = all(isinstance(began.get(key), str) for key in ("from", "data"))
    return texts and all(isinstance(began.get(key), str | None) for key in ("image_size", "colours"))


def _is_list(values, counts, fits):
    """Return whether it is a list of fitting values, of one of these lengths; None: of any above 0."""
    return (
        isinstance(values, list) and (len(values) in counts if counts else values) and all(map(fits, values))
    )


def _are_as_long(mean, std):
    return isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30

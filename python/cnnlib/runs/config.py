"""What the commands read of a run's config.json: a file in which a value does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cnnlib.augment import TTA
from cnnlib.runs.data_sets import DATA_SETS, OF_FILES
from cnnlib.runs.log import LOG_KINDS
from cnnlib.runs.tasks import TASKS

FORMAT, VERSION = "cnnlib run", 1


def is_config(content: Any) -> bool:
    """Return whether this is what config.json holds of a run."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def lies_in_run(path: Path | str) -> bool:
    """Return whether the config.json beside a file is a run's, or damaged, and no other program's."""
    file = Path(path).with_name("config.json")
    if not file.is_file():
        return False
    try:
        return is_config(json.loads(file.read_text(encoding="utf-8")))
    except (RecursionError, ValueError):
        return True


def check_config(file: Path, config: dict[str, Any]) -> None:
    """Refuse a config.json that lacks a part, or has a value that the commands cannot read; ValueError."""
    for part in ("data", "preprocessing", "model", "training"):
        if not isinstance(config.get(part), dict):
            _refuse(file, config, part)
    data, preprocessing, began = config["data"], config["preprocessing"], config.get("from")
    name = data.get("name") if isinstance(data.get("name"), str) else ""
    found = name in OF_FILES  # so the file says what images there are
    channels = DATA_SETS[name].shape[0] if name in DATA_SETS else data.get("channels")
    counts = (1, channels)  # a network that others trained may have one mean for all channels
    fits = {
        "data name": name in (*DATA_SETS, *OF_FILES),
        "data folder": isinstance(data.get("folder"), str if found else str | None),
        "data task": "task" not in data or data["task"] in TASKS,
        "data size": not found or _is_list(data.get("size"), (2,), lambda n: type(n) is int and n > 0),
        "data channels": not found or data.get("channels") in (1, 3),
        "data validation": name != "folder" or _is_number(data.get("validation")),
        "data test": name != "folder" or _is_number(data.get("test")),
        "classes": not found or _is_list(config.get("classes"), None, lambda name: isinstance(name, str)),
        "preprocessing mean": _is_list(preprocessing.get("mean"), counts, _is_number),
        "preprocessing std": _is_list(preprocessing.get("std"), counts, lambda x: _is_number(x) and x > 0),
        "preprocessing white": _is_number(preprocessing.get("white")),
        "training tta": config["training"].get("tta") in (None, *TTA),
        "log": config.get("log", []) == [] or _is_list(config["log"], None, LOG_KINDS.__contains__),
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


def _says_the_start(began):
    texts = all(isinstance(began.get(key), str) for key in ("from", "data"))
    return texts and all(isinstance(began.get(key), str | None) for key in ("image_size", "colours"))


def _is_list(values, counts, fits):
    """Whether it is a list of fitting values, of one of these lengths; None: of any above 0."""
    return (
        isinstance(values, list) and (len(values) in counts if counts else values) and all(map(fits, values))
    )


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30

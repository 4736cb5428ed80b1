"""Metadata of networks that Ultralytics exported: task, names of classes, size and stride of images.

Its values are Python's text of them: ``names`` is ``{0: 'person', 1: 'bicycle'}``, ``imgsz`` is
``[640, 640]``.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from cnnlib._params import positive_int
from cnnlib.detection.head import TASKS, DetectionHead

_TASK, _NAMES, _SIZE, _STRIDE, _KEYPOINTS = "task", "names", "imgsz", "stride", "kpt_shape"
_NEEDED = {_TASK, _NAMES, _SIZE, _STRIDE}  # of each export
_CLASSIFY = "classify"
# A string as repr writes it: with these escapes alone.
_ESCAPE = r"""\\(?:['"\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U(?:000[0-9a-f]|0010)[0-9a-f]{4})"""
_STRING = rf"""'(?:[^'\\\n\r\0]|{_ESCAPE})*'|"(?:[^"\\\n\r\0]|{_ESCAPE})*\""""
_ITEM = re.compile(rf"\s*([0-9]+)\s*:\s*({_STRING})\s*(,|\Z)")


def head_of(content: dict[str, str]) -> DetectionHead | None:
    """The head of a network that finds objects, of a file's metadata; None where they speak of none.

    ValueError or TypeError where they are not as Ultralytics writes them.
    """
    if not _NEEDED <= content.keys() or content[_TASK] not in TASKS:
        return None
    return DetectionHead(
        _names(content[_NAMES]),
        content[_TASK],
        _pair(content, _SIZE),
        _integer(content[_STRIDE]),
        _pair(content, _KEYPOINTS) if content[_TASK] == "pose" else None,
    )


def classes_of(content: dict[str, str]) -> tuple[str, ...] | None:
    """The names of the classes, of the metadata of a network that classifies; None for all others."""
    if not _NEEDED <= content.keys() or content[_TASK] != _CLASSIFY:
        return None
    return _names(content[_NAMES])


def size_of(content: dict[str, str]) -> tuple[int, int] | None:
    """Height and width of the images of a network, of a file's metadata; None where they speak of none.

    ValueError or TypeError where they are not as Ultralytics writes them.
    """
    if not _NEEDED <= content.keys() or content[_TASK] not in (*TASKS, _CLASSIFY):
        return None
    height, width = _pair(content, _SIZE)
    return positive_int("metadata", _SIZE, height), positive_int("metadata", _SIZE, width)


def metadata_of(head: DetectionHead, size: tuple[int, ...]) -> dict[str, str]:
    """The metadata that say the same of a network whose images have a `size` (H, W)."""
    content = {
        _TASK: head.task,
        _NAMES: repr(dict(enumerate(head.classes))),
        _SIZE: str(list(size)),
        _STRIDE: str(head.stride),
    }
    return content if head.keypoints is None else content | {_KEYPOINTS: str(list(head.keypoints))}


def _names(text: str) -> tuple[str, ...]:
    """The names in the text of a dict from 0, 1, 2 ... to them."""
    inner = text.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        raise ValueError(f"names must be a dict, got {text[:40]!r}")
    inner, place = inner[1:-1], 0
    names: list[str] = []
    while place < len(inner):
        item = _ITEM.match(inner, place)
        if item is None or int(item[1]) != len(names):
            raise ValueError(f"names must be text by numbers from 0, got {inner[place : place + 40]!r}")
        names.append(ast.literal_eval(item[2]))  # of one string: nothing in it is nested
        place = item.end()
    return tuple(names)


def _pair(content: dict[str, str], key: str) -> Any:
    value = json.loads(content[key]) if key in content else None
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{key} must be two integers, got {content.get(key)!r}")
    return tuple(value)


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{_STRIDE} must be an integer, got {text[:40]!r}")
    return int(text)

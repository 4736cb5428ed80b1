"""Meaning of a detection network's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cnnlib._params import check_keys, choice, is_sequence, positive_int

TASKS = ("detect", "segment", "pose")
_KEYPOINT = (2, 3)  # numbers of a key point: x and y, or a visibility too


@dataclass(frozen=True, init=False)
class DetectionHead:
    """
    Meaning of a detection network's outputs.

    :func:`cnnlib.onnx.load` reads it from files that Ultralytics exported. A network from elsewhere can be
    given one: ``net.detection = DetectionHead(...)``.

    Parameters
    ----------
    classes : sequence of str
        Their names, in the order of the scores.
    task : 'detect', 'segment' or 'pose'
        Boxes; boxes and masks; boxes and key points.
    size : (int, int) or None
        Height and width of the network's images; None where its `input_dim` says it.
    stride : int
        Pixels of a cell of the network's coarsest grid, of which sizes of its images are multiples.
    keypoints : (int, int) or None
        Of 'pose': how many there are, and how many numbers each has: 2, x and y, or 3, a visibility too.

    Raises
    ------
    ValueError, TypeError
        For no class, names that are no text, `keypoints` without the task 'pose' or the other way round,
        numbers out of range.

    Examples
    --------
    >>> DetectionHead(["cat", "dog"], size=(640, 640))
    DetectionHead(classes=('cat', 'dog'), task='detect', size=(640, 640), stride=32, keypoints=None)
    """

    classes: tuple[str, ...]
    task: str
    size: tuple[int, int] | None
    stride: int
    keypoints: tuple[int, int] | None

    def __init__(
        self,
        classes: Sequence[str],
        task: str = "detect",
        size: tuple[int, int] | None = None,
        stride: int = 32,
        keypoints: tuple[int, int] | None = None,
    ) -> None:
        where = "DetectionHead"
        if isinstance(classes, str) or not is_sequence(classes):
            raise TypeError(f"{where}: classes must be a sequence of names, got {classes!r}")
        if not classes:
            raise ValueError(f"{where}: classes must have a name at least, got none")
        if not all(isinstance(name, str) for name in classes):
            raise TypeError(f"{where}: classes must be a sequence of names, got {classes!r}")
        choice(where, "task", task, TASKS)
        stride = positive_int(where, "stride", stride)
        size = _pair(where, "size", size)
        keypoints = _pair(where, "keypoints", keypoints)
        if (keypoints is None) == (task == "pose"):
            raise ValueError(f"{where}: keypoints are for the task 'pose', got {keypoints} for {task!r}")
        if keypoints is not None and keypoints[1] not in _KEYPOINT:
            raise ValueError(f"{where}: a key point has 2 or 3 numbers, got keypoints {keypoints}")
        settings = {"classes": tuple(classes), "task": task, "size": size, "stride": stride}
        for name, value in {**settings, "keypoints": keypoints}.items():
            object.__setattr__(self, name, value)

    def described(self) -> dict[str, Any]:
        """The arguments that make it, for files."""
        return asdict(self)

    @classmethod
    def of(cls, where: str, described: Any) -> DetectionHead | None:
        """The head that :meth:`described` describes; None for None. ValueError for what describes none."""
        if described is None:
            return None
        names = ("classes", "task", "size", "stride", "keypoints")
        if not isinstance(described, Mapping):
            raise ValueError(f"{where}: a detection head must be a dict, got {described!r}")
        check_keys(where, "detection", described, names, names)
        return cls(**described)


def checked_head(where: str, head: Any) -> DetectionHead | None:
    """A network's `detection`; TypeError, which begins with `where`, for what is no head."""
    if head is not None and not isinstance(head, DetectionHead):
        raise TypeError(f"{where}: detection must be a DetectionHead or None, got {head!r}")
    return head


def _pair(where: str, name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not is_sequence(value) or len(value) != 2:
        raise ValueError(f"{where}: {name} must be two integers, got {value!r}")
    return positive_int(where, name, value[0]), positive_int(where, name, value[1])

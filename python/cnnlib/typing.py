"""Types of the parameter dictionaries: editors complete their keys, type checkers refuse wrong ones.

At run time they are plain dicts. A type checker knows a dict that is written into a call; a variable needs an
annotation, since it is a ``dict[str, int]`` otherwise:

>>> import numpy as np
>>> import cnnlib
>>> from cnnlib.typing import ConvParam
>>> conv_param: ConvParam = {"stride": 2, "pad": "same"}
>>> cnnlib.conv_forward(np.ones((1, 3, 8, 8)), np.ones((4, 3, 3, 3)), None, conv_param)[0].shape
(1, 4, 4, 4)

What the keys mean is in the docstrings of the functions that take them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from numpy.typing import ArrayLike, NDArray

__all__ = ["AlternatingFlipSettings", "AttentionParam", "Augment", "AvgPool1dParam", "AvgPool3dParam"]
__all__ += ["AvgPoolParam"]
__all__ += ["BatchNormParam", "ConvParam", "ConvTransposeParam", "CosineSettings", "CropSettings"]
__all__ += ["CutoutSettings", "DropoutParam", "FlipSettings", "MaxPool1dParam", "MaxPool3dParam"]
__all__ += ["MaxPoolParam", "NormParam", "OneCycleSettings", "OptimConfig", "Schedule", "StepSettings"]
__all__ += ["TriangleSettings"]

_ByAxis: TypeAlias = int | Sequence[int]
_Pad: TypeAlias = int | Sequence[int | Sequence[int]] | Literal["same", "valid"]


class ConvParam(TypedDict, total=False):
    """`conv_param` of `conv_forward`, `conv1d_forward` and `conv3d_forward`."""

    stride: _ByAxis
    pad: _Pad
    dilation: _ByAxis
    groups: int
    algorithm: str


class ConvTransposeParam(ConvParam, total=False):
    """`conv_param` of `conv_transpose_forward`."""

    output_pad: _ByAxis


class _Pool(TypedDict, total=False):
    stride: _ByAxis | None
    pad: _Pad
    ceil_mode: bool


class _MaxPool(_Pool, total=False):
    dilation: _ByAxis


class _AvgPool(_Pool, total=False):
    count_include_pad: bool


class _Row(TypedDict, total=False):
    size: _ByAxis
    pool_width: int


class _Plane(_Row, total=False):
    pool_height: int


class _Volume(_Plane, total=False):
    pool_depth: int


class MaxPoolParam(_Plane, _MaxPool):
    """`pool_param` of `max_pool_forward`."""


class AvgPoolParam(_Plane, _AvgPool):
    """`pool_param` of `avg_pool_forward`."""


class MaxPool1dParam(_Row, _MaxPool):
    """`pool_param` of `max_pool1d_forward`."""


class AvgPool1dParam(_Row, _AvgPool):
    """`pool_param` of `avg_pool1d_forward`."""


class MaxPool3dParam(_Volume, _MaxPool):
    """`pool_param` of `max_pool3d_forward`."""


class AvgPool3dParam(_Volume, _AvgPool):
    """`pool_param` of `avg_pool3d_forward`."""


class _Mode(TypedDict):
    mode: Literal["train", "test"]


class BatchNormParam(_Mode, total=False):
    """`bn_param` of both batch norms, which write their running statistics to it."""

    eps: float
    momentum: float
    running_mean: ArrayLike
    running_var: ArrayLike


class NormParam(TypedDict, total=False):
    """`ln_param`, `gn_param` and `in_param` of layer, group and instance norm."""

    eps: float
    mode: Literal["train", "test"]


class AttentionParam(TypedDict, total=False):
    """`attention_param` of `attention_forward`."""

    scale: float | None
    bias: ArrayLike | None
    causal: bool


class _Probability(_Mode):
    p: float


class DropoutParam(_Probability, total=False):
    """`dropout_param` of `dropout_forward`."""

    seed: int | None


class OptimConfig(TypedDict, total=False):
    """`config` of the rules in `cnnlib.optim`, with their state, and `optim_config` of the Solver."""

    learning_rate: float
    momentum: float
    decay_rate: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    velocity: NDArray[Any]
    a: NDArray[Any]
    v: NDArray[Any]
    t: int


class StepSettings(TypedDict, total=False):
    """`cnnlib.schedules.Step`."""

    name: Literal["step"]
    epochs: float | Sequence[float]
    factor: float


class CosineSettings(TypedDict, total=False):
    """`cnnlib.schedules.Cosine`."""

    name: Literal["cosine"]
    final: float
    warmup: float


class OneCycleSettings(TypedDict, total=False):
    """`cnnlib.schedules.OneCycle`."""

    name: Literal["one-cycle"]
    warmup: float
    start: float
    final: float


class TriangleSettings(TypedDict, total=False):
    """`cnnlib.schedules.Triangle`."""

    name: Literal["triangle"]
    peak: float
    start: float
    final: float


class FlipSettings(TypedDict, total=False):
    """`cnnlib.augment.HorizontalFlip`."""

    name: Literal["flip"]
    p: float


class AlternatingFlipSettings(TypedDict, total=False):
    """`cnnlib.augment.AlternatingFlip`."""

    name: Literal["alternating-flip"]


class CropSettings(TypedDict, total=False):
    """`cnnlib.augment.RandomCrop`."""

    name: Literal["crop"]
    pad: int
    mode: Literal["constant", "reflect"]
    target_fill: float


class CutoutSettings(TypedDict, total=False):
    """`cnnlib.augment.Cutout`."""

    name: Literal["cutout"]
    size: int
    fill: float


Schedule: TypeAlias = (
    Literal["step", "cosine", "one-cycle", "triangle"]
    | StepSettings
    | CosineSettings
    | OneCycleSettings
    | TriangleSettings
    | Callable[[float, float], float]
)
_OneAugment: TypeAlias = (
    Literal["flip", "alternating-flip", "crop", "cutout"]
    | FlipSettings
    | AlternatingFlipSettings
    | CropSettings
    | CutoutSettings
    | Callable[..., Any]
)
Augment: TypeAlias = _OneAugment | Sequence[_OneAugment]

"""Activations and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnlib.torch.aten.call import Call
from cnnlib.torch.aten.value import CHANNELS_LAST, SPREAD

__all__ = ["OPERATORS"]


def _emit(call: Call, layer: str, *args: Any) -> None:
    """A layer that goes element by element."""
    value = call.value(0, CHANNELS_LAST, SPREAD)
    call.emit_as(value, layer, (value.name,), (), args)


def _plain(layer: str) -> Callable[[Call], None]:
    return lambda call: _emit(call, layer)


def _gelu(call: Call) -> None:
    _emit(call, "gelu", call["approximate"])


def _elu(call: Call) -> None:
    if (call["scale"], call["input_scale"]) != (1, 1):
        call.refuse("the scales of selu and celu have no counterpart")
    _emit(call, "elu", float(call["alpha"]))


def _leaky_relu(call: Call) -> None:
    _emit(call, "leaky_relu", float(call["negative_slope"]))


def _clamp(low: str, high: str) -> Callable[[Call], None]:
    def read(call: Call) -> None:
        limits = call[low], call[high]
        if limits not in ((0, 6), (0, None)):
            call.refuse(f"values are clamped to [0, 6] (relu6) or from 0 (relu) alone, got {limits}")
        _emit(call, "relu" if limits[1] is None else "relu6")

    return read


def _softmax(call: Call) -> None:
    value = call.ranked(call.value("self"), 2, 4)
    if call["dim"] % len(value.shape) != 1:
        call.refuse(f"softmax is over axis 1 alone, got dim={call['dim']}")
    call.emit("softmax", (value.name,))


def _dropout(call: Call) -> None:
    if call["train"]:
        call.refuse("it drops values in eval mode too (training=True)")
    _emit(call, "dropout", {"p": float(call["p"]), "mode": "test"})


def _channel_dropout(call: Call) -> None:
    call.refuse("dropout of whole channels has no counterpart; that of single values (Dropout) has")


OPERATORS: dict[str, Callable[[Call], None]] = {
    **{name: _plain(name) for name in ("relu", "relu6", "sigmoid", "tanh", "silu")},
    "hardsigmoid": _plain("hard_sigmoid"),
    "hardswish": _plain("hard_swish"),
    "gelu": _gelu,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "softmax": _softmax,
    "dropout": _dropout,
    "feature_dropout": _channel_dropout,
}

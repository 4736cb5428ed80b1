"""Activations and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnlib.graph.importing import Feature
from cnnlib.torch.aten.call import Call
from cnnlib.torch.aten.value import CHANNELS_LAST, SPREAD


def _same(call: Call, layer: str, *args: Any) -> Feature:
    """A layer that goes element by element."""
    return call.same(layer, call.value(0, CHANNELS_LAST, SPREAD), *args)


def _plain(layer: str) -> Callable[[Call], Feature]:
    return lambda call: _same(call, layer)


def _gelu(call: Call) -> Feature:
    return _same(call, "gelu", call["approximate"])


def _elu(call: Call) -> Feature:
    if (call["scale"], call["input_scale"]) != (1, 1):
        call.fail("the scales of selu and celu have no counterpart")
    return _same(call, "elu", float(call["alpha"]))


def _leaky_relu(call: Call) -> Feature:
    return _same(call, "leaky_relu", float(call["negative_slope"]))


def _clamp(low: str, high: str) -> Callable[[Call], Feature]:
    def read(call: Call) -> Feature:
        limits = call[low], call[high]
        if limits not in ((0, 6), (0, None)):
            call.fail(f"values are clamped to [0, 6] (relu6) or from 0 (relu) alone, got {limits}")
        return _same(call, "relu" if limits[1] is None else "relu6")

    return read


def _softmax(call: Call) -> Feature:
    value = call.value("self", CHANNELS_LAST, ranks=(2, 4))
    if call["dim"] % (1 + len(value.shape)) != 1 + value.channel_axis:
        call.fail(f"softmax is over the channels alone, got dim={call['dim']}")
    return call.softmax(value)


def _dropout(call: Call) -> Feature:
    if call["train"]:
        call.fail("it drops values in eval mode too (training=True)")
    return _same(call, "dropout", {"p": float(call["p"]), "mode": "test"})


def _channel_dropout(call: Call) -> Feature:
    call.fail("dropout of whole channels has no counterpart; that of single values (Dropout) has")


OPERATORS: dict[str, Callable[[Call], Feature]] = {
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

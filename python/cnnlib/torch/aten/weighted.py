"""Layers with parameters: convolutions, linear layers, norms."""

from __future__ import annotations

from collections.abc import Callable

from cnnlib._params import same_sides
from cnnlib.torch.aten.call import Call, two
from cnnlib.torch.aten.value import CHANNELS_LAST, PADDED, Value

__all__ = ["OPERATORS"]


def _conv(call: Call) -> None:
    value = call.ranked(call.value("input", PADDED), 4)
    dilation, padding = two(call["dilation"]), call["padding"]
    if padding == "same":  # PyTorch has it at stride 1 alone
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, call.shape("weight")[2:])]
        own = [same_sides(1, span, 1) for span in spans]
    else:
        own = [(p, p) for p in two([0] if padding == "valid" else padding)]
    pad = tuple((before + b, after + a) for (before, after), (b, a) in zip(value.pad, own))
    param = {"stride": two(call["stride"]), "pad": pad, "dilation": dilation, "groups": call["groups"]}
    call.emit("conv", (value.name,), (call.parameter("weight"), call.parameter("bias")), (param,))


def _conv_transpose(call: Call) -> None:
    param = {
        "stride": two(call["stride"]),
        "pad": two(call["padding"]),
        "dilation": two(call["dilation"]),
        "groups": call["groups"],
        "output_pad": two(call["output_padding"]),
    }
    params = (call.parameter("weight"), call.parameter("bias"))
    call.emit("conv_transpose", (call.rows_or_images("input", 4),), params, (param,))


def _linear(call: Call) -> None:
    value = call.value("input", CHANNELS_LAST)
    if value.kind == CHANNELS_LAST:  # a product for each pixel
        params = (call.parameter("weight", "1x1"), call.parameter("bias"))
        N, _, *size = value.shape
        made = Value("", (N, call.out_shape[-1], *size), CHANNELS_LAST)
        call.emit_as(made, "conv", (value.name,), params, ({"stride": 1, "pad": 0},))
        return
    params = (call.parameter("weight", "transposed"), call.parameter("bias"))
    call.emit("affine", (call.ranked(value, 2).name,), params)


def _batch_norm(call: Call) -> None:
    if call["training"]:
        call.refuse("it normalises by the batch's statistics in eval mode too (track_running_stats=False)")
    name = call.rows_or_images("input", 2, 4)
    bn_param = call.reader.batch_norm(
        call["running_mean"], call["running_var"], call["eps"], call["momentum"]
    )
    shape = call.shape("input")
    layer = "batchnorm" if len(shape) == 2 else "spatial_batchnorm"
    call.emit(layer, (name,), call.affine(shape[1]), (bn_param,))


def _instance_norm(call: Call) -> None:
    if not call["use_input_stats"] or call["running_mean"] is not None or call["running_var"] is not None:
        call.refuse("instance norm by running statistics (track_running_stats=True) has no counterpart")
    call["momentum"]  # of the running statistics
    name, params = call.rows_or_images("input", 4), call.affine(call.shape("input")[1])
    call.emit("spatial_instancenorm", (name,), params, ({"eps": call["eps"]},))


def _group_norm(call: Call) -> None:
    name, params = call.rows_or_images("input", 4), call.affine(call.shape("input")[1])
    call.emit("spatial_groupnorm", (name,), params, (call["num_groups"], {"eps": call["eps"]}))


def _layer_norm(call: Call) -> None:
    value = call.value("input", CHANNELS_LAST)
    if value.kind == CHANNELS_LAST and len(call["normalized_shape"]) == 1:
        params, args = call.affine(value.shape[1]), ({"eps": call["eps"]},)
        call.emit_as(value, "spatial_layernorm", (value.name,), params, args)
        return
    name, shape = call.rows_or_images("input", 2), call.shape("input")
    if tuple(call["normalized_shape"]) != shape[1:]:
        call.refuse(f"rows are normalised whole, got normalized_shape={call['normalized_shape']}")
    call.emit("layernorm", (name,), call.affine(shape[1]), ({"eps": call["eps"]},))


OPERATORS: dict[str, Callable[[Call], None]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
}

"""Layers with parameters: convolutions, linear layers, norms."""

from __future__ import annotations

from collections.abc import Callable

from cnnlib.torch.aten.call import Call, two

__all__ = ["OPERATORS"]


def _conv(call: Call) -> None:
    name = call.value_in_shape("input", 4)
    name, sides = call.reader.pads.get(name, (name, ((0, 0), (0, 0))))
    dilation, padding = two(call["dilation"]), call["padding"]
    if padding == "same":  # PyTorch has it at stride 1 alone
        totals = [d * (k - 1) for d, k in zip(dilation, call.shape("weight")[2:])]
        own = [(total // 2, total - total // 2) for total in totals]
    else:
        own = [(p, p) for p in two([0] if padding == "valid" else padding)]
    pad = tuple((before + b, after + a) for (before, after), (b, a) in zip(sides, own))
    param = {"stride": two(call["stride"]), "pad": pad, "dilation": dilation, "groups": call["groups"]}
    call.emit("conv", (name,), (call.parameter("weight"), call.parameter("bias")), (param,))


def _conv_transpose(call: Call) -> None:
    param = {
        "stride": two(call["stride"]),
        "pad": two(call["padding"]),
        "dilation": two(call["dilation"]),
        "groups": call["groups"],
        "output_pad": two(call["output_padding"]),
    }
    params = (call.parameter("weight"), call.parameter("bias"))
    call.emit("conv_transpose", (call.value_in_shape("input", 4),), params, (param,))


def _linear(call: Call) -> None:
    if call.has_channels_last("input"):  # a product for each pixel
        params = (call.parameter("weight", "1x1"), call.parameter("bias"))
        name = call.value("input", channels_last=True)
        call.emit("conv", (name,), params, ({"stride": 1, "pad": 0},), channels_last=True)
        return
    params = (call.parameter("weight", "transposed"), call.parameter("bias"))
    call.emit("affine", (call.value_in_shape("input", 2),), params)


def _batch_norm(call: Call) -> None:
    if call["training"]:
        call.refuse("it normalises by the batch's statistics in eval mode too (track_running_stats=False)")
    name = call.value_in_shape("input", 2, 4)
    norms, key = call.reader.norms, call.reader.names[call["running_mean"]]
    if key not in norms:  # a layer that is called twice has one set of statistics
        norms[key] = {
            "mode": "test",
            "eps": call["eps"],
            "momentum": 1 - call["momentum"],
            "running_mean": call.tensor("running_mean").numpy(force=True).copy(),
            "running_var": call.tensor("running_var").numpy(force=True).copy(),
        }
    shape = call.shape("input")
    layer = "batchnorm" if len(shape) == 2 else "spatial_batchnorm"
    call.emit(layer, (name,), call.affine(shape[1]), (norms[key],))


def _instance_norm(call: Call) -> None:
    if not call["use_input_stats"] or call["running_mean"] is not None:
        call.refuse("instance norm by running statistics (track_running_stats=True) has no counterpart")
    name, params = call.value_in_shape("input", 4), call.affine(call.shape("input")[1])
    call.emit("spatial_instancenorm", (name,), params, ({"eps": call["eps"]},))


def _group_norm(call: Call) -> None:
    name, params = call.value_in_shape("input", 4), call.affine(call.shape("input")[1])
    call.emit("spatial_groupnorm", (name,), params, (call["num_groups"], {"eps": call["eps"]}))


def _layer_norm(call: Call) -> None:
    if call.has_channels_last("input") and len(call["normalized_shape"]) == 1:
        name = call.value("input", channels_last=True)
        params, args = call.affine(call.shape("input")[3]), ({"eps": call["eps"]},)
        call.emit("spatial_layernorm", (name,), params, args, channels_last=True)
        return
    name, params = call.value_in_shape("input", 2), call.affine(call.shape("input")[1])
    call.emit("layernorm", (name,), params, ({"eps": call["eps"]},))


OPERATORS: dict[str, Callable[[Call], None]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
}

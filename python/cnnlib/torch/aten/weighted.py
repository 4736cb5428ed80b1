"""Layers with parameters: convolutions, linear layers, norms."""

from __future__ import annotations

from collections.abc import Callable

from cnnlib._params import same_sides
from cnnlib.graph.importing import Feature
from cnnlib.torch.aten.call import CHANNELS_LAST, PADDED, Call, two


def _conv(call: Call) -> Feature:
    value = call.value("input", PADDED, ranks=(4,))
    dilation, padding = two(call["dilation"]), call["padding"]
    if padding == "same":  # PyTorch has it at stride 1 alone
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, call.shape("weight")[2:])]
        own = [same_sides(1, span, 1) for span in spans]
    else:
        own = [(p, p) for p in two([0] if padding == "valid" else padding)]
    around = value.pad or ((0, 0), (0, 0))
    pad = tuple((before + b, after + a) for (before, after), (b, a) in zip(around, own))
    param = {"stride": two(call["stride"]), "pad": pad, "dilation": dilation, "groups": call["groups"]}
    return call.emit("conv", value.bare(), params=call.given("weight", "bias"), args=(param,))


def _conv_transpose(call: Call) -> Feature:
    param = {
        "stride": two(call["stride"]),
        "pad": two(call["padding"]),
        "dilation": two(call["dilation"]),
        "groups": call["groups"],
        "output_pad": two(call["output_padding"]),
    }
    value, params = call.value("input", ranks=(4,)), call.given("weight", "bias")
    return call.emit("conv_transpose", value, params=params, args=(param,))


def _linear(call: Call) -> Feature:
    value = call.value("input", CHANNELS_LAST)
    if not value.channels_last:
        call.value("input", ranks=(2,))
    (w, w_name), (b, b_name) = call.weights("weight"), call.weights("bias")
    assert w is not None  # PyTorch requires it
    return call.product(value, w.T, b, (w_name, b_name))


def _batch_norm(call: Call) -> Feature:
    if call["training"]:
        call.fail("it normalises by the batch's statistics in eval mode too (track_running_stats=False)")
    value = call.value("input", ranks=(2, 4))
    bn_param = call.net.batch_norm(call["running_mean"], call["running_var"], call["eps"], call["momentum"])
    layer = "batchnorm" if len(value.shape) == 1 else "spatial_batchnorm"
    return call.same(layer, value, bn_param, params=call.affine(value.shape[0]))


def _instance_norm(call: Call) -> Feature:
    if not call["use_input_stats"] or call["running_mean"] is not None or call["running_var"] is not None:
        call.fail("instance norm by running statistics (track_running_stats=True) has no counterpart")
    call["momentum"]  # of the running statistics
    value = call.value("input", ranks=(4,))
    return call.same("spatial_instancenorm", value, {"eps": call["eps"]}, params=call.affine(value.shape[0]))


def _group_norm(call: Call) -> Feature:
    value, args = call.value("input", ranks=(4,)), (call["num_groups"], {"eps": call["eps"]})
    return call.same("spatial_groupnorm", value, *args, params=call.affine(value.shape[0]))


def _layer_norm(call: Call) -> Feature:
    value = call.value("input", CHANNELS_LAST)
    last = value.channels_last and len(call["normalized_shape"]) == 1
    if not last:
        call.value("input", ranks=(2,))
        if tuple(call["normalized_shape"]) != value.shape:
            call.fail(f"rows are normalised whole, got normalized_shape={call['normalized_shape']}")
    layer = "spatial_layernorm" if last else "layernorm"
    return call.same(layer, value, {"eps": call["eps"]}, params=call.affine(value.shape[0]))


OPERATORS: dict[str, Callable[[Call], Feature]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
}

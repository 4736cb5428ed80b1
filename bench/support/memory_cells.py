"""The layers, losses and updates that memory bounds, each as a pair of calls: cnnlib's and PyTorch's.

PyTorch's are the operators that its autograd runs, called directly. Bytes are the fewest that can be read and
written: every operand and every result once; statistics, masks and argmax planes are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from support import timing

LARGE, SMALL = (64, 64, 32, 32), (64, 256, 8, 8)
_EPS = 1e-5


@dataclass
class Cell:
    """Two calls without arguments, and functions that see their results as tuples of NumPy arrays."""

    group: str
    name: str
    direction: str
    bytes: int
    flops: int
    own: tuple[Callable, Callable]
    torch: tuple[Callable, Callable]


class Cells:
    """Makes the cells of one dtype; `make(group)` yields those of one of GROUPS."""

    def __init__(self, torch, dtype):
        from cnnlib import layers, optim

        self.torch, self.layers, self.optim = torch, layers, optim
        self.aten = torch.ops.aten
        self.dtype = dtype
        self._normals = timing.Normals()

    def make(self, group):
        yield from getattr(self, group)(group)

    def _arrays(self, *shapes):
        """Random arrays, and tensors on the same memory."""
        arrays = self._normals(self.dtype, *shapes)
        return arrays, [self.torch.from_numpy(array) for array in arrays]

    def _cell(self, group, name, direction, own, torch, numbers, flops=0):
        num_bytes = numbers * np.dtype(self.dtype).itemsize
        see_own = _first_array if direction == "forward" else _arrays_of
        see_torch = _first_tensor if direction == "forward" else _tensors_of
        return Cell(group, name, direction, num_bytes, flops, (own, see_own), (torch, see_torch))

    def max_pool(self, group):
        forward = self.aten.max_pool2d_with_indices.default
        backward = self.aten.max_pool2d_with_indices_backward.default
        for shape, (size, stride, pad) in [
            (LARGE, (2, 2, 0)),
            (LARGE, (3, 2, 1)),
            (SMALL, (2, 2, 0)),
            ((64, 64, 28, 28), (2, 2, 0)),
            ((64, 256, 15, 15), (2, 2, 0)),
            ((64, 192, 27, 27), (3, 2, 0)),
        ]:
            param, window = _pool_windows(size, stride, pad)
            (x, dout), (tx, tdout) = self._arrays(shape, _pooled(shape, size, stride, pad))
            cache = self.layers.max_pool_forward(x, param)[1]
            window = (*window, [1, 1], False)
            indices = forward(tx, *window)[1]
            name, numbers = f"{size}x{size} stride {stride} {_text(shape)}", x.size + dout.size
            own = partial(self.layers.max_pool_forward, x, param)
            yield self._cell(group, name, "forward", own, partial(forward, tx, *window), numbers)
            own = partial(self.layers.max_pool_backward, dout, cache)
            torch = partial(backward, tdout, tx, *window, indices)
            yield self._cell(group, name, "backward", own, torch, numbers)

    def avg_pool(self, group):
        forward, backward = self.aten.avg_pool2d.default, self.aten.avg_pool2d_backward.default
        for size, stride, pad in ((2, 2, 0), (3, 2, 1)):
            param, window = _pool_windows(size, stride, pad)
            (x, dout), (tx, tdout) = self._arrays(LARGE, _pooled(LARGE, size, stride, pad))
            cache = self.layers.avg_pool_forward(x, param)[1]
            name, numbers = f"{size}x{size} stride {stride} {_text(LARGE)}", x.size + dout.size
            own = partial(self.layers.avg_pool_forward, x, param)
            yield self._cell(group, name, "forward", own, partial(forward, tx, *window), numbers)
            own = partial(self.layers.avg_pool_backward, dout, cache)
            torch = partial(backward, tdout, tx, *window, False, True, None)
            yield self._cell(group, name, "backward", own, torch, numbers)

    def global_avg_pool(self, group):
        (x, dout), (tx, tdout) = self._arrays(LARGE, LARGE[:2])
        cache = self.layers.global_avg_pool_forward(x)[1]
        numbers, pixels = x.size + dout.size, LARGE[2] * LARGE[3]
        own = partial(self.layers.global_avg_pool_forward, x)
        torch = partial(self.torch.mean, tx, (2, 3))
        yield self._cell(group, _text(LARGE), "forward", own, torch, numbers)
        own = partial(self.layers.global_avg_pool_backward, dout, cache)
        torch = partial(self.torch.div, tdout[:, :, None, None].expand(LARGE), pixels)
        yield self._cell(group, _text(LARGE), "backward", own, torch, numbers)

    def batchnorm(self, group):
        forward, backward = self.torch.native_batch_norm, self.aten.native_batch_norm_backward.default
        for shape in (LARGE, SMALL, (256, 1024)):
            C = shape[1]
            (x, dout, gamma, beta), (tx, tdout, tgamma, tbeta) = self._arrays(shape, shape, (C,), (C,))
            name = "spatial_batchnorm" if len(shape) == 4 else "batchnorm"
            own_forward = getattr(self.layers, f"{name}_forward")
            own_backward = getattr(self.layers, f"{name}_backward")
            param = {"mode": "train", "eps": _EPS}
            running = [self.torch.from_numpy(np.full(C, v, self.dtype)) for v in (0, 1)]
            cache = own_forward(x, gamma, beta, param)[1]
            _, mean, inv_std = forward(tx, tgamma, tbeta, *running, True, 0.1, _EPS)
            own = partial(own_forward, x, gamma, beta, param)
            torch = partial(forward, tx, tgamma, tbeta, *running, True, 0.1, _EPS)
            yield self._cell(group, _text(shape), "forward", own, torch, 2 * x.size)
            mask = [True] * 3
            torch = partial(backward, tdout, tx, tgamma, *running, mean, inv_std, True, _EPS, mask)
            own = partial(own_backward, dout, cache)
            yield self._cell(group, _text(shape), "backward", own, torch, 3 * x.size)

    def layernorm(self, group):
        forward, backward = self.torch.native_layer_norm, self.aten.native_layer_norm_backward.default
        for N, D in ((4096, 1024), (256, 1024)):
            (x, dout, gamma, beta), tensors = self._arrays((N, D), (N, D), (D,), (D,))
            tx, tdout, tgamma, tbeta = tensors
            cache = self.layers.layernorm_forward(x, gamma, beta, {"eps": _EPS})[1]
            _, mean, inv_std = forward(tx, [D], tgamma, tbeta, _EPS)
            own = partial(self.layers.layernorm_forward, x, gamma, beta, {"eps": _EPS})
            torch = partial(forward, tx, [D], tgamma, tbeta, _EPS)
            yield self._cell(group, _text((N, D)), "forward", own, torch, 2 * x.size)
            own = partial(self.layers.layernorm_backward, dout, cache)
            torch = partial(backward, tdout, tx, [D], mean, inv_std, tgamma, tbeta, [True] * 3)
            yield self._cell(group, _text((N, D)), "backward", own, torch, 3 * x.size)

    def groupnorm(self, group):
        forward, backward = self.torch.native_group_norm, self.aten.native_group_norm_backward.default
        N, C, H, W = LARGE
        for G in (8, 32):
            (x, dout, gamma, beta), (tx, tdout, tgamma, tbeta) = self._arrays(LARGE, LARGE, (C,), (C,))
            cache = self.layers.spatial_groupnorm_forward(x, gamma, beta, G, {"eps": _EPS})[1]
            arguments = (tx, tgamma, tbeta, N, C, H * W, G, _EPS)
            _, mean, inv_std = forward(*arguments)
            name = f"{G} groups {_text(LARGE)}"
            own = partial(self.layers.spatial_groupnorm_forward, x, gamma, beta, G, {"eps": _EPS})
            yield self._cell(group, name, "forward", own, partial(forward, *arguments), 2 * x.size)
            own = partial(self.layers.spatial_groupnorm_backward, dout, cache)
            torch = partial(backward, tdout, tx, mean, inv_std, tgamma, N, C, H * W, G, [True] * 3)
            yield self._cell(group, name, "backward", own, torch, 3 * x.size)

    def relu(self, group):
        for shape in (LARGE, SMALL):
            (x, dout), (tx, tdout) = self._arrays(shape, shape)
            own, torch = partial(self.layers.relu_forward, x), partial(self.torch.relu, tx)
            yield self._cell(group, _text(shape), "forward", own, torch, 2 * x.size)
            own = partial(self.layers.relu_backward, dout, x)
            torch = partial(self.aten.threshold_backward.default, tdout, tx, 0)
            yield self._cell(group, _text(shape), "backward", own, torch, 3 * x.size)

    def activations(self, group):
        """PyTorch's sigmoid, tanh and softmax keep their result for the backward pass; ours a copy of it."""
        aten, functional = self.aten, self.torch.nn.functional
        own_result = {"sigmoid": aten.sigmoid_backward.default, "tanh": aten.tanh_backward.default}
        calls = [
            ("relu6", functional.relu6, lambda dy, x: aten.hardtanh_backward.default(dy, x, 0, 6), ()),
            ("sigmoid", self.torch.sigmoid, None, ()),
            ("tanh", self.torch.tanh, None, ()),
            ("silu", functional.silu, aten.silu_backward.default, ()),
            ("hard_sigmoid", functional.hardsigmoid, aten.hardsigmoid_backward.default, ()),
            ("hard_swish", functional.hardswish, aten.hardswish_backward.default, ()),
            ("gelu", functional.gelu, aten.gelu_backward.default, ()),
            (
                "gelu",
                partial(functional.gelu, approximate="tanh"),
                partial(aten.gelu_backward.default, approximate="tanh"),
                ("tanh",),
            ),
            (
                "elu",
                functional.elu,
                lambda dy, x: aten.elu_backward.default(dy, 1.0, 1, 1, False, x),
                (),
            ),
        ]
        for shape in (LARGE, (16, 64, 16, 16)):
            (x, dout), (tx, tdout) = self._arrays(shape, shape)
            for layer, function, backward, rest in calls:
                name = " ".join((layer, *rest, _text(shape)))
                own = partial(getattr(self.layers, f"{layer}_forward"), x, *rest)
                yield self._cell(group, name, "forward", own, partial(function, tx), 2 * x.size)
                kept = tx
                if backward is None:
                    backward, kept = own_result[layer], function(tx)
                own = partial(getattr(self.layers, f"{layer}_backward"), dout, own()[1])
                torch = partial(backward, tdout, kept)
                yield self._cell(group, name, "backward", own, torch, 3 * x.size)

    def softmax(self, group):
        forward, backward = self.aten._softmax.default, self.aten._softmax_backward_data.default
        for shape in ((256, 1000), (4096, 10), (512, 64), (16, 21, 64, 64)):
            (x, dout), (tx, tdout) = self._arrays(shape, shape)
            own = partial(self.layers.softmax_forward, x)
            yield self._cell(group, _text(shape), "forward", own, partial(forward, tx, 1, False), 2 * x.size)
            own = partial(self.layers.softmax_backward, dout, own()[1])
            torch = partial(backward, tdout, forward(tx, 1, False), 1, tx.dtype)
            yield self._cell(group, _text(shape), "backward", own, torch, 3 * x.size)

    def resizing(self, group):
        aten, shape = self.aten, (64, 64, 28, 28)
        for size in (7, 6, 1):
            (x, dout), (tx, tdout) = self._arrays(shape, (*shape[:2], size, size))
            numbers, name = x.size + dout.size, f"{_text(shape)} to {size}x{size}"
            cache = self.layers.adaptive_avg_pool_forward(x, size)[1]
            own = partial(self.layers.adaptive_avg_pool_forward, x, size)
            torch = partial(self.torch.nn.functional.adaptive_avg_pool2d, tx, size)
            yield self._cell(group, f"avg {name}", "forward", own, torch, numbers)
            own = partial(self.layers.adaptive_avg_pool_backward, dout, cache)
            torch = partial(aten._adaptive_avg_pool2d_backward.default, tdout, tx)
            yield self._cell(group, f"avg {name}", "backward", own, torch, numbers)
            cache = self.layers.adaptive_max_pool_forward(x, size)[1]
            own = partial(self.layers.adaptive_max_pool_forward, x, size)
            torch = partial(aten.adaptive_max_pool2d.default, tx, [size, size])
            indices = torch()[1]
            yield self._cell(group, f"max {name}", "forward", own, torch, numbers)
            own = partial(self.layers.adaptive_max_pool_backward, dout, cache)
            torch = partial(aten.adaptive_max_pool2d_backward.default, tdout, tx, indices)
            yield self._cell(group, f"max {name}", "backward", own, torch, numbers)
        for mode, corners in (("nearest", False), ("bilinear", False), ("bilinear", True)):
            shape = (16, 32, 32, 32)
            (x, dout), (tx, tdout) = self._arrays(shape, (16, 32, 64, 64))
            numbers, name = x.size + dout.size, f"{mode} {'corners ' * corners}{_text(shape)}"
            cache = self.layers.upsample_forward(x, 2, mode, corners)[1]
            own = partial(self.layers.upsample_forward, x, 2, mode, corners)
            if mode == "nearest":
                torch = partial(aten.upsample_nearest2d.default, tx, [64, 64])
                back = partial(aten.upsample_nearest2d_backward.default, tdout, [64, 64], list(shape))
            else:
                torch = partial(aten.upsample_bilinear2d.default, tx, [64, 64], corners)
                back = partial(
                    aten.upsample_bilinear2d_backward.default, tdout, [64, 64], list(shape), corners
                )
            yield self._cell(group, name, "forward", own, torch, numbers)
            own = partial(self.layers.upsample_backward, dout, cache)
            yield self._cell(group, name, "backward", own, back, numbers)

    def dropout(self, group):
        """The masks come from different generators, so that forward results are not compared."""
        (x, dout), (tx, tdout) = self._arrays(SMALL, SMALL)
        param = {"p": 0.5, "mode": "train"}
        cell = self._cell(
            group,
            f"p=0.5 {_text(SMALL)}",
            "forward",
            partial(self.layers.dropout_forward, x, param),
            partial(self.torch.native_dropout, tx, 0.5, True),
            2 * x.size,
        )
        cell.own, cell.torch = (cell.own[0], _nothing), (cell.torch[0], _nothing)
        yield cell
        mask = self.layers.dropout_forward(x, param)[1][1]
        own = partial(self.layers.dropout_backward, dout, (param, mask))
        kept = self.torch.from_numpy(np.asarray(mask != 0))
        torch = partial(self.aten.native_dropout_backward.default, tdout, kept, 2.0)
        yield self._cell(group, f"p=0.5 {_text(SMALL)}", "backward", own, torch, 2 * x.size)

    def affine(self, group):
        for N, D, M in ((100, 8192, 100), (256, 512, 512), (128, 2048, 10), (1, 4096, 1000)):
            (x, w, b, dout), (tx, tw, tb, tdout) = self._arrays((N, D), (D, M), (M,), (N, M))
            flops, numbers = 2 * N * D * M, x.size + w.size + dout.size
            own, torch = partial(self.layers.affine_forward, x, w, b), partial(self.torch.addmm, tb, tx, tw)
            yield self._cell(group, f"{D}->{M} N={N}", "forward", own, torch, numbers, flops)
            own = partial(self.layers.affine_backward, dout, (x, w, b))
            torch = partial(_torch_affine_backward, tdout, tx, tw)
            numbers += x.size + w.size
            yield self._cell(group, f"{D}->{M} N={N}", "backward", own, torch, numbers, 2 * flops)

    def attention(self, group):
        """Vision transformers' patches, longer sequences, a batch, and windows; flops are of all scores."""
        forward = self.aten._scaled_dot_product_flash_attention_for_cpu.default
        backward = self.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
        one_sample = [(1, heads, tokens, 64) for tokens in (197, 1024, 4096) for heads in (3, 6, 12)]
        for shape in (*one_sample, (8, 12, 197, 64), (256, 3, 49, 32)):
            (q, k, v, dout), (tq, tk, tv, tdout) = self._arrays(shape, shape, shape, shape)
            flops = 4 * shape[0] * shape[1] * shape[2] ** 2 * shape[3]
            cache = self.layers.attention_forward(q, k, v)[1]
            out, log_sums = forward(tq, tk, tv)
            own, torch = partial(self.layers.attention_forward, q, k, v), partial(forward, tq, tk, tv)
            yield self._cell(group, _text(shape), "forward", own, torch, 4 * q.size, flops)
            own = partial(self.layers.attention_backward, dout, cache)
            torch = partial(backward, tdout, tq, tk, tv, out, log_sums, 0.0, False)
            yield self._cell(group, _text(shape), "backward", own, torch, 8 * q.size, 5 * flops // 2)

    def softmax_loss(self, group):
        for N, C in ((100, 10), (256, 1000), (4096, 100)):
            (x,), (tx,) = self._arrays((N, C))
            y = np.random.default_rng(0).integers(C, size=N)
            own = partial(self.layers.softmax_loss, x, y)
            torch = partial(_torch_softmax_loss, self.aten, tx, self.torch.from_numpy(y))
            cell = self._cell(group, f"{C} classes N={N}", "backward", own, torch, 2 * x.size)
            cell.direction = "both"
            cell.own = (own, _loss_arrays)
            yield cell

    def losses(self, group):
        """Losses and gradients of rows, pixels and classes; PyTorch's by autograd, as it has no other way."""
        F = self.torch.nn.functional
        pairs = {
            "mse_loss": F.mse_loss,
            "l1_loss": F.l1_loss,
            "huber_loss": F.huber_loss,
            "bce_loss": F.binary_cross_entropy_with_logits,
            "dice_loss": partial(_torch_dice_loss, self.torch),
            "cross_entropy": F.cross_entropy,
            "softmax_loss": F.cross_entropy,
        }
        for shape in ((64, 10), (16, 21, 256, 256), (1024, 1000)):
            (x, y), _ = self._arrays(shape, shape)
            y = abs(y) / abs(y).max()
            labels = np.random.default_rng(0).integers(shape[1], size=(shape[0], *shape[2:]))
            for name, function in pairs.items():
                targets = labels if name == "softmax_loss" else y
                own = partial(getattr(self.layers, name), x, targets)
                torch = partial(_torch_loss, self.torch, function, x, targets)
                numbers = (2 if name == "softmax_loss" else 3) * x.size
                cell = self._cell(group, f"{name} {_text(shape)}", "backward", own, torch, numbers)
                cell.direction = "both"
                cell.own = (own, _loss_arrays)
                yield cell

    def update(self, group):
        """Names are those of cnnlib's rules; PyTorch's optimizer is fused where it can be, else 'foreach'."""
        optim, size = self.torch.optim, 1 << 20
        rates = {"lr": 1e-3}
        momentum = {**rates, "momentum": 0.9, "fused": True}
        rules = [
            ("adam", 7, partial(optim.Adam, **rates, fused=True), "fused"),
            ("adam", 7, partial(optim.Adam, **rates, foreach=True), "foreach"),
            ("adamw", 7, partial(optim.AdamW, **rates, fused=True), "fused"),
            ("sgd", 3, partial(optim.SGD, **rates, fused=True), "fused"),
            ("sgd_momentum", 5, partial(optim.SGD, **momentum), "fused"),
            ("sgd_nesterov_momentum", 5, partial(optim.SGD, **momentum, nesterov=True), "fused"),
            ("rmsprop", 5, partial(optim.RMSprop, **rates, foreach=True), "foreach"),
        ]
        for rule, passes, optimizer, kind in rules:
            (w, dw), (tw, tdw) = self._arrays((size,), (size,))
            w *= 1e-3  # so that an error of the update is large next to the weights; tw shares their memory
            parameter = self.torch.nn.Parameter(tw.clone(), requires_grad=False)
            parameter.grad = tdw
            step = optimizer([parameter]).step
            own = partial(getattr(self.optim, rule), w, dw, {"learning_rate": 1e-3})
            name = f"{rule} 1M ({kind})"
            cell = self._cell(group, name, "forward", own, partial(_stepped, step, parameter), passes * size)
            cell.direction = "update"
            yield cell


GROUPS = tuple(name for name in vars(Cells) if not name.startswith("_") and name != "make")


def _torch_affine_backward(dout, x, w):
    return dout.mm(w.t()), x.t().mm(dout), dout.sum(0)


def _torch_softmax_loss(aten, x, y):
    """The loss and its gradient, by the four operators of cross_entropy and its backward pass."""
    log_p = aten._log_softmax.default(x, 1, False)
    loss, weight = aten.nll_loss_forward.default(log_p, y, None, 1, -100)
    d_log_p = aten.nll_loss_backward.default(loss.new_ones(()), log_p, y, None, 1, -100, weight)
    return loss, aten._log_softmax_backward_data.default(d_log_p, log_p, 1, x.dtype)


def _torch_loss(torch, function, x, y):
    with torch.inference_mode(False), torch.enable_grad():
        leaf = torch.from_numpy(x).requires_grad_()
        loss = function(leaf, torch.from_numpy(y))
        (dx,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), dx


def _torch_dice_loss(torch, x, y):
    p, pixels = torch.sigmoid(x), tuple(range(min(2, x.ndim - 1), x.ndim))
    overlap = (2 * (p * y).sum(pixels) + 1) / (p.sum(pixels) + y.sum(pixels) + 1)
    return (1 - overlap).mean()


def _stepped(step, parameter):
    step()
    return parameter


def _first_array(result):
    return (result[0],)


def _arrays_of(result):
    return tuple(map(np.asarray, result)) if isinstance(result, tuple) else (result,)


def _loss_arrays(result):
    loss, dx = result
    return np.asarray(loss, dx.dtype), dx


def _first_tensor(result):
    return ((result[0] if isinstance(result, tuple) else result).numpy(),)


def _tensors_of(result):
    return tuple(t.numpy() for t in result) if isinstance(result, (tuple, list)) else (result.numpy(),)


def _nothing(result):
    return ()


def _pool_windows(size, stride, pad):
    """A pool_param, and PyTorch's kernel_size, stride, padding."""
    param = {"size": size, "stride": stride, "pad": pad}
    return param, ([size] * 2, [stride] * 2, [pad] * 2)


def _pooled(shape, size, stride, pad):
    return (*shape[:2], *(1 + (n + 2 * pad - size) // stride for n in shape[2:]))


def _text(shape):
    return "x".join(map(str, shape))

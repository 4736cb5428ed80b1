"""
The layers that a line can name: what shapes its sizes mean, and which arguments follow the arrays.

| layers | sizes |
| --- | --- |
| conv, conv_relu, conv_bn_relu, conv_relu_pool, conv_bn_relu_pool | n c h w f k s p r g; ``pool=2`` |
| conv1d, conv3d, conv_transpose | n c (d h) w f k s p r g, and o |
| max_pool, avg_pool, those of 1d and 3d | n c (d h) w k s p r; ``ceil_mode=1``, ``count_include_pad=0`` |
| adaptive_avg_pool, adaptive_max_pool, upsample | n c h w k; ``mode=bilinear``, ``align_corners=1`` |
| batchnorm, layernorm, and the spatial norms | n c h w; g of group norm; ``mode=test``, ``eps=1e-3`` |
| affine, affine_relu, affine_bn_relu | n c f |
| activations, softmax, dropout, global_avg_pool | n c h w, or fewer; ``alpha=0.2``, ``approximate=tanh`` |
| attention | n, h and g heads, l queries, m keys, c and f values of them; ``causal=1``, ``bias=1`` |
| softmax_loss, svm_loss, cross_entropy, and the losses of values | n c h w, or fewer |
"""

from __future__ import annotations

import numpy as np
from helpers import ELEMENTWISE, Layer

CONVOLUTIONS = ("conv", "conv_relu", "conv_bn_relu", "conv_relu_pool", "conv_bn_relu_pool")
OF_CLASSES = ("softmax_loss", "svm_loss")  # y holds classes
LOSSES = (*OF_CLASSES, "cross_entropy", "mse_loss", "l1_loss", "huber_loss", "bce_loss", "dice_loss")
NORMS = ("spatial_layernorm", "spatial_groupnorm", "spatial_instancenorm", "layernorm")
BATCH_NORMS = ("batchnorm", "spatial_batchnorm")
POOLS = ("max_pool", "avg_pool", "max_pool1d", "avg_pool1d", "max_pool3d", "avg_pool3d")
RESIZED = ("adaptive_avg_pool", "adaptive_max_pool", "upsample")
PLAIN = (*ELEMENTWISE, "softmax", "global_avg_pool")
OTHER_CONVOLUTIONS = ("conv1d", "conv3d", "conv_transpose")
NAMES = (*CONVOLUTIONS, *OTHER_CONVOLUTIONS, *POOLS, *RESIZED, *BATCH_NORMS, *NORMS)
NAMES += ("affine", "affine_relu", "affine_bn_relu", *PLAIN, "attention", *LOSSES)
# What a line says of how it is run; every other option is an argument of its layer.
RUN_OPTIONS = ("seed", "layout", "engine")


def mixes_images(problem):
    """Return whether an image's result depends on the other images of the batch, by contract."""
    if problem.layer in LOSSES:
        return True
    mixes = "batchnorm" in problem.layer or "_bn_" in problem.layer or problem.layer == "dropout"
    return mixes and problem.options.get("mode", "train") == "train"


def has_kinks(layer):
    """Return whether a ReLU or a pool follows rounded sums: rounding then turns some gradients on or off."""
    return layer.endswith(("_relu", "_pool")) and layer.startswith(("conv", "affine"))


def layer_of(problem):
    """
    Return the `Layer` of a problem: its shapes, and the arguments that follow.

    Raises
    ------
    ValueError
        For a layer that is not known, a size that it lacks, or an option that it does not take.
    """
    reader = _Reader(problem)
    layer = reader.layer()
    unused = set(problem.options) - reader.asked - set(RUN_OPTIONS)
    if unused:
        raise ValueError(f"problem: {problem.layer} takes no {', '.join(sorted(unused))} ({problem})")
    return layer


class _Reader:
    """Reads sizes and options of a problem, and remembers which options it was asked for."""

    def __init__(self, problem):
        self.problem = problem
        self.asked = set()

    def layer(self):
        name = self.problem.layer
        if name in CONVOLUTIONS or name in OTHER_CONVOLUTIONS:
            return self.convolution(name)
        if name.startswith("affine"):
            return self.affine(name)
        if name in POOLS:
            axes = 1 if "1d" in name else 3 if "3d" in name else 2
            return Layer(name, ("x",), (self.images(axes),), self.rest(self.pool_param(axes)))
        if name in RESIZED:
            return self.resized(name)
        if name in (*BATCH_NORMS, *NORMS):
            return self.norm(name)
        if name == "attention":
            return self.attention()
        if name in LOSSES:
            return Layer(name, ("x",), (self.any_shape(),), self.rest())
        if name in PLAIN:
            return self.plain(name)
        raise ValueError(f"problem: no layer is called {name!r}; known are {', '.join(NAMES)}")

    def size(self, letter, default=None):
        numbers = self.problem.sizes.get(letter, default if default is None else (default,))
        if numbers is None or len(numbers) != 1:
            raise ValueError(
                f"problem: {self.problem.layer} needs one number for {letter!r} ({self.problem})"
            )
        return numbers[0]

    def by_axis(self, letter, axes, default):
        """Return a number for each axis, where one number stands for all."""
        numbers = self.problem.sizes.get(letter, (default,))
        if len(numbers) not in (1, axes):
            raise ValueError(f"problem: {letter!r} takes 1 or {axes} numbers ({self.problem})")
        return numbers * axes if len(numbers) == 1 else numbers

    def option(self, key, default=None):
        self.asked.add(key)
        return self.problem.options.get(key, default)

    def given(self, *keys):
        """Return the options that are given, as a dict."""
        return {key: self.option(key) for key in keys if self.option(key) is not None}

    def rest(self, *arguments):
        """Return what makes the arguments: dicts anew each time, since layers may write to them."""
        return lambda: tuple(dict(each) if isinstance(each, dict) else each for each in arguments)

    def plane(self, axes):
        """Return the sizes of the axes of an image: w is h, and h is d, where they are left out."""
        letters = "dhw"[3 - axes :]
        sizes = [self.size(letters[0])]
        for letter in letters[1:]:
            sizes.append(self.size(letter, sizes[-1]))
        return tuple(sizes)

    def images(self, axes):
        return (self.size("n"), self.size("c"), *self.plane(axes))

    def any_shape(self):
        letters = [letter for letter in "ncdhw" if letter in self.problem.sizes]
        shape = tuple(self.size(letter) for letter in letters)
        return (*shape, shape[-1]) if letters[-1] == "h" else shape

    def window(self, axes, dilated=True):
        """Return stride, pad and dilation, as far as they are given."""
        param = {}
        if "s" in self.problem.sizes:
            param["stride"] = self.by_axis("s", axes, 1)
        pads = self.problem.sizes.get("p", (0,))
        if len(pads) == 2 * axes and axes > 1:
            param["pad"] = tuple(zip(pads[::2], pads[1::2]))
        else:
            param["pad"] = self.option("pad", self.by_axis("p", axes, 0))
        if dilated and "r" in self.problem.sizes:
            param["dilation"] = self.by_axis("r", axes, 1)
        return {
            key: value[0] if axes == 1 and isinstance(value, tuple) else value for key, value in param.items()
        }

    def convolution(self, name):
        axes = {"conv1d": 1, "conv3d": 3}.get(name, 2)
        x, F, groups = self.images(axes), self.size("f"), self.size("g", 1)
        channels = (x[1], F // groups) if name == "conv_transpose" else (F, x[1] // groups)
        param = {**self.window(axes), "groups": groups, **self.given("algorithm")}
        if "o" in self.problem.sizes:
            param["output_pad"] = self.by_axis("o", axes, 0)
        names, shapes = ["x", "w", "b"], [x, (*channels, *self.by_axis("k", axes, 1)), (F,)]
        rest = [param]
        if "_bn_" in name:
            names += ["gamma", "beta"]
            shapes += [(F,), (F,)]
            rest.append(self.bn_param(F))
        if name.endswith("_pool"):
            size = self.option("pool", 2)
            rest.append({"pool_height": size, "pool_width": size, "stride": size})
        return Layer(name, tuple(names), tuple(shapes), self.rest(*rest))

    def affine(self, name):
        N, D, M = self.size("n"), self.size("c"), self.size("f")
        names, shapes, rest = ["x", "w", "b"], [(N, D), (D, M), (M,)], []
        if "_bn_" in name:
            names += ["gamma", "beta"]
            shapes += [(M,), (M,)]
            rest.append(self.bn_param(M))
        return Layer(name, tuple(names), tuple(shapes), self.rest(*rest))

    def pool_param(self, axes):
        keys = ("pool_depth", "pool_height", "pool_width")[3 - axes :]
        param = dict(zip(keys, self.by_axis("k", axes, 2)))
        flags = {key: bool(value) for key, value in self.given("ceil_mode", "count_include_pad").items()}
        return {**param, **self.window(axes, dilated="max" in self.problem.layer), **flags}

    def resized(self, name):
        rest = [self.by_axis("k", 2, 2)]
        if name == "upsample":
            rest += [self.option("mode", "nearest"), bool(self.option("align_corners", 0))]
        return Layer(name, ("x",), (self.images(2),), self.rest(*rest))

    def bn_param(self, channels):
        param = {"mode": self.option("mode", "train"), **self.given("eps", "momentum")}
        if param["mode"] == "test":
            param["running_mean"] = np.linspace(-1, 1, channels)
            param["running_var"] = np.linspace(0.5, 2, channels)
        return param

    def norm(self, name):
        x = self.images(2) if name.startswith("spatial") else (self.size("n"), self.size("c"))
        rest = [self.size("g", 1)] if name == "spatial_groupnorm" else []
        rest.append(self.bn_param(x[1]) if name in BATCH_NORMS else self.given("eps"))
        return Layer(name, ("x", "gamma", "beta"), (x, x[1:2], x[1:2]), self.rest(*rest))

    def attention(self):
        N, heads, C = self.size("n"), self.size("h", 1), self.size("c")
        kv, queries = self.size("g", heads), self.size("l")
        keys, values = self.size("m", queries), self.size("f", C)
        shapes = (N, heads, queries, C), (N, kv, keys, C), (N, kv, keys, values)
        param = {"causal": bool(self.option("causal", 0))}
        if self.option("bias"):
            param["bias"] = np.linspace(-1, 1, keys, dtype=self.problem.dtype)[None, None, None]
        return Layer("attention", ("q", "k", "v"), shapes, self.rest(param))

    def plain(self, name):
        rest = []
        if name in ("leaky_relu", "elu"):
            rest = list(self.given("alpha").values())
        if name == "gelu":
            rest = list(self.given("approximate").values())
        if name == "dropout":
            rest = [{"mode": "train", "p": 0.5, "seed": 5, **self.given("mode", "p")}]
        return Layer(name, ("x",), (self.any_shape(),), self.rest(*rest))

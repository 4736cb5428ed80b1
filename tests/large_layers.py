"""Layers large enough that several threads are worth their while."""

import numpy as np
from helpers import Layer


def conv(**conv_param):
    return lambda: (dict(conv_param),)


def pool(**pool_param):
    return lambda: ({"pool_height": 3, "pool_width": 3, **pool_param},)


def batchnorm(mode, C):
    statistics = {"running_mean": np.linspace(-1, 1, C), "running_var": np.linspace(0.5, 2, C)}
    return lambda: ({"mode": mode, **statistics},)


POOL_3D = {"pool_depth": 2, "pool_height": 3, "pool_width": 3, "stride": 2, "pad": 1}
X, XWB, XGB, QKV = ("x",), ("x", "w", "b"), ("x", "gamma", "beta"), ("q", "k", "v")

LARGE = {
    "conv 3x3": Layer("conv", XWB, ((7, 16, 19, 18), (33, 16, 3, 3), (33,)), conv(pad=1)),
    "conv 3x3 direct": Layer(
        "conv", XWB, ((7, 16, 19, 18), (33, 16, 3, 3), (33,)), conv(pad=1, algorithm="direct")
    ),
    # Where the whole batch is worth another algorithm than a single image.
    "conv 3x3 deep": Layer("conv", XWB, ((5, 64, 8, 8), (64, 64, 3, 3), (64,)), conv(pad=1)),
    "conv 3x3 deeper": Layer("conv", XWB, ((6, 70, 5, 6), (60, 70, 3, 3), (60,)), conv(pad=1)),
    "conv 3x3 many filters": Layer("conv", XWB, ((2, 40, 9, 9), (200, 40, 3, 3), (200,)), conv(pad=1)),
    "conv 3x3 stride 2": Layer(
        "conv", XWB, ((5, 40, 19, 18), (70, 40, 3, 3), (70,)), conv(stride=2, pad=1, algorithm="winograd")
    ),
    "conv 3x3 stride 2 many filters": Layer(
        "conv", XWB, ((2, 200, 9, 8), (210, 200, 3, 3), (210,)), conv(stride=2, algorithm="winograd")
    ),
    "conv stride": Layer("conv", XWB, ((7, 16, 19, 18), (33, 16, 3, 3), (33,)), conv(stride=2, pad=1)),
    "conv 1x1": Layer("conv", XWB, ((5, 70, 13, 11), (67, 70, 1, 1), (67,)), conv()),
    # Alone, an image has fewer positions than there are filters; the batch has more.
    "conv 1x1 small": Layer("conv", XWB, ((5, 300, 7, 7), (100, 300, 1, 1), (100,)), conv()),
    # A few panels of filters are packed at once; how many follows from the threads.
    "conv 1x1 far input": Layer("conv", XWB, ((8, 1100, 7, 7), (400, 1100, 1, 1), (400,)), conv()),
    "conv deep": Layer("conv", XWB, ((3, 150, 5, 5), (40, 150, 3, 3), (40,)), conv(pad=1)),
    "conv 5x5": Layer("conv", XWB, ((3, 48, 19, 18), (64, 48, 5, 5), (64,)), conv(pad=2)),
    "conv dilated": Layer("conv", XWB, ((3, 48, 19, 18), (33, 48, 3, 3), (33,)), conv(pad=2, dilation=2)),
    "conv whole image": Layer("conv", XWB, ((65, 30, 5, 5), (70, 30, 5, 5), (70,)), conv()),
    "conv large result": Layer("conv", XWB, ((2, 192, 35, 33), (50, 96, 3, 1), (50,)), conv(groups=2)),
    "conv one image": Layer("conv", XWB, ((1, 32, 40, 37), (48, 32, 3, 3), (48,)), conv(pad=1)),
    # Fewer tiles and panels of filters than threads: products are cut by points.
    "conv 3x3 few tiles": Layer("conv", XWB, ((1, 96, 9, 9), (160, 96, 3, 3), (160,)), conv(pad=1)),
    "conv 1x1 stride 2": Layer("conv", XWB, ((2, 64, 24, 22), (130, 64, 1, 1), (130,)), conv(stride=2)),
    "conv 7x7": Layer("conv", XWB, ((3, 3, 30, 30), (16, 3, 7, 7), (16,)), conv(stride=2, pad=3)),
    "conv groups": Layer("conv", XWB, ((7, 16, 19, 18), (32, 4, 3, 3), (32,)), conv(pad=1, groups=4)),
    "conv depthwise": Layer("conv", XWB, ((7, 33, 19, 18), (33, 1, 3, 3), (33,)), conv(pad=1, groups=33)),
    "conv depthwise in place": Layer(
        "conv", XWB, ((2, 33, 30, 37), (66, 1, 3, 3), (66,)), conv(pad=1, groups=33)
    ),
    "conv_transpose": Layer(
        "conv_transpose", XWB, ((5, 24, 11, 10), (24, 17, 4, 4), (17,)), conv(stride=2, pad=1)
    ),
    "max_pool": Layer("max_pool", X, ((7, 16, 19, 18),), pool(stride=2, pad=1)),
    "avg_pool": Layer("avg_pool", X, ((7, 16, 19, 18),), pool(stride=2, pad=1)),
    "global_avg_pool": Layer("global_avg_pool", X, ((7, 60, 19, 18),)),
    "batchnorm": Layer("batchnorm", XGB, ((700, 301), (301,), (301,)), batchnorm("train", 301)),
    "batchnorm test": Layer("batchnorm", XGB, ((700, 301), (301,), (301,)), batchnorm("test", 301)),
    "spatial_batchnorm": Layer(
        "spatial_batchnorm", XGB, ((7, 33, 29, 28), (33,), (33,)), batchnorm("train", 33)
    ),
    "spatial_batchnorm test": Layer(
        "spatial_batchnorm", XGB, ((7, 33, 29, 28), (33,), (33,)), batchnorm("test", 33)
    ),
    "layernorm": Layer("layernorm", XGB, ((301, 700), (700,), (700,)), lambda: ({},)),
    "spatial_groupnorm": Layer("spatial_groupnorm", XGB, ((7, 33, 29, 28), (33,), (33,)), lambda: (3, {})),
    "spatial_instancenorm": Layer(
        "spatial_instancenorm", XGB, ((7, 33, 29, 28), (33,), (33,)), lambda: ({},)
    ),
    "spatial_layernorm": Layer("spatial_layernorm", XGB, ((7, 33, 29, 28), (33,), (33,)), lambda: ({},)),
    "affine": Layer("affine", XWB, ((65, 3, 10, 10), (300, 129), (129,))),
    "affine narrow": Layer("affine", XWB, ((200, 1000), (1000, 10), (10,))),
    "affine few rows": Layer("affine", XWB, ((3, 2000), (2000, 130), (130,))),
    "affine of rows": Layer("affine", XWB, ((70, 1100), (1100, 530), (530,))),
    "relu": Layer("relu", X, ((7, 33, 40, 37),)),
    "leaky_relu": Layer("leaky_relu", X, ((7, 33, 40, 37),)),
    **{
        name: Layer(name, X, ((7, 33, 40, 37),))
        for name in ("relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish", "elu")
    },
    "gelu": Layer("gelu", X, ((7, 33, 40, 37),)),
    "max_pool1d": Layer(
        "max_pool1d", X, ((7, 64, 900),), lambda: ({"pool_width": 3, "stride": 2, "pad": 1},)
    ),
    "avg_pool1d": Layer(
        "avg_pool1d", X, ((7, 64, 900),), lambda: ({"pool_width": 3, "stride": 2, "pad": 1},)
    ),
    "conv1d": Layer("conv1d", XWB, ((7, 16, 300), (33, 16, 5), (33,)), conv(pad=2)),
    "conv3d": Layer("conv3d", XWB, ((5, 8, 6, 19, 18), (17, 8, 3, 3, 3), (17,)), conv(pad=1)),
    "max_pool3d": Layer("max_pool3d", X, ((7, 8, 6, 19, 18),), lambda: (dict(POOL_3D),)),
    "avg_pool3d": Layer("avg_pool3d", X, ((7, 8, 6, 19, 18),), lambda: (dict(POOL_3D),)),
    "adaptive_avg_pool": Layer("adaptive_avg_pool", X, ((7, 33, 40, 37),), lambda: ((7, 6),)),
    "adaptive_max_pool": Layer("adaptive_max_pool", X, ((7, 33, 40, 37),), lambda: ((7, 6),)),
    "upsample": Layer("upsample", X, ((7, 33, 20, 17),), lambda: (2,)),
    "upsample bilinear": Layer("upsample", X, ((7, 33, 20, 17),), lambda: ((3, 2), "bilinear")),
    "softmax": Layer("softmax", X, ((7, 33, 40, 37),)),
    "attention": Layer("attention", QKV, ((5, 3, 150, 24), (5, 3, 197, 24), (5, 3, 197, 17)), lambda: ({},)),
    # Two heads share one of k and v, and the keys' gradients come from two parts of them.
    "attention causal": Layer(
        "attention",
        QKV,
        ((4, 2, 530, 20), (4, 1, 530, 20), (4, 1, 530, 32)),
        lambda: ({"causal": True, "bias": np.linspace(-1, 1, 530, dtype=np.float32)[None, None, None]},),
    ),
    "softmax of rows": Layer("softmax", X, ((70, 3301),)),
    "softmax of short rows": Layer("softmax", X, ((20_011, 10),)),
    "conv_bn_relu_pool": Layer(
        "conv_bn_relu_pool",
        (*XWB, "gamma", "beta"),
        ((7, 16, 19, 18), (33, 16, 3, 3), (33,), (33,), (33,)),
        lambda: ({"pad": 1}, {"mode": "train"}, {"pool_height": 2, "pool_width": 2}),
    ),
}

import functools
import types

import cnnlib
import numpy as np
import pytest
from cnnlib import conv_backward, conv_forward
from cnnlib.gradient_check import rel_error
from cnnlib.naive import conv_backward_naive, conv_forward_naive
from conv_products import conv_results
from helpers import ConvCase as Case
from helpers import assert_all_close, assert_close, cast, random_arrays

pytestmark = [pytest.mark.sets, pytest.mark.core]


def inputs(case):
    rng = np.random.default_rng(list(str(case).encode()))
    x, w, b = random_arrays(rng, case.x, case.w, case.w[:1])
    return x, w, b if case.bias else None


@functools.cache
def reference(case):
    """x, w, b, dout, and what the loops make of them: out, (dx, dw, db)."""
    x, w, b = inputs(case)
    dout_of = lambda shape: random_arrays(np.random.default_rng(7), shape)[0]  # noqa: E731
    dout, (out, *gradients) = conv_results(x, w, b, case.conv_param, dout_of)
    return x, w, b, dout, out, gradients


CASES = [
    # what a network is made of
    Case((2, 3, 8, 8), (4, 3, 3, 3), pad=1),
    Case((2, 3, 9, 7), (4, 3, 3, 3), stride=2, pad=1),
    Case((2, 3, 8, 8), (4, 3, 5, 5), pad=2),
    Case((2, 3, 10, 11), (4, 3, 7, 7), pad=3),
    Case((2, 6, 5, 7), (4, 6, 1, 1)),
    Case((2, 6, 5, 7), (4, 6, 1, 1), stride=2),
    Case((2, 6, 5, 7), (4, 6, 1, 1), pad=1),
    Case((2, 3, 8, 8), (4, 3, 3, 3), pad=1, bias=False),
    # small to the point of vanishing
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((0, 3, 5, 5), (2, 3, 3, 3), pad=1),
    Case((0, 3, 5, 5), (2, 3, 3, 3), pad=1, bias=False),
    Case((1, 1, 1, 1), (2, 1, 3, 3), pad=1),
    Case((3, 2, 1, 1), (4, 2, 1, 1)),
    Case((1, 1, 2, 3), (1, 1, 2, 3)),
    Case((1, 5, 1, 9), (2, 5, 1, 3), pad=(0, 1)),
    Case((1, 5, 9, 1), (2, 5, 3, 1), pad=(1, 0)),
    # kernels as large as the padded image, and larger than the image itself
    Case((2, 3, 5, 4), (3, 3, 5, 4)),
    Case((2, 3, 5, 4), (3, 3, 7, 6), pad=1),
    Case((1, 2, 3, 3), (2, 2, 7, 7), pad=2),
    Case((1, 2, 3, 2), (2, 2, 6, 5), pad=((3, 0), (0, 3))),
    # stride, also beyond the kernel or the image
    Case((2, 3, 11, 9), (2, 3, 2, 2), stride=3),
    Case((2, 3, 11, 9), (2, 3, 1, 1), stride=4),
    Case((1, 2, 7, 10), (3, 2, 3, 3), stride=(1, 2), pad=1),
    Case((1, 2, 10, 7), (3, 2, 3, 3), stride=(3, 1), pad=1),
    Case((1, 2, 5, 5), (3, 2, 3, 3), stride=7, pad=1),
    Case((2, 3, 16, 16), (5, 3, 4, 4), stride=2, pad=1),
    Case((1, 3, 23, 21), (6, 3, 7, 7), stride=4, pad=2),
    Case((1, 2, 9, 9), (2, 2, 3, 3), stride=2),
    Case((1, 2, 10, 10), (2, 2, 3, 3), stride=2),
    # padding in all its forms
    Case((2, 3, 6, 7), (2, 3, 3, 3), pad=2),
    Case((2, 3, 6, 7), (2, 3, 3, 3), pad=5),
    Case((2, 3, 6, 7), (2, 3, 3, 3), pad=(0, 2)),
    Case((2, 3, 6, 7), (2, 3, 3, 3), pad=((1, 0), (0, 1))),
    Case((2, 3, 6, 7), (2, 3, 3, 3), pad=((0, 3), (2, 1)), stride=2),
    Case((2, 3, 6, 7), (2, 3, 3, 3), pad="valid"),
    Case((2, 3, 6, 7), (2, 3, 3, 3), pad="same"),
    Case((2, 3, 6, 7), (2, 3, 4, 2), pad="same"),
    Case((2, 3, 6, 7), (2, 3, 3, 5), pad="same", stride=2),
    Case((2, 3, 7, 8), (2, 3, 4, 5), pad="same", stride=3),
    Case((2, 3, 7, 8), (2, 3, 1, 2), pad="same", stride=3),
    Case((2, 3, 9, 8), (2, 3, 3, 2), pad="same", stride=(1, 2), dilation=(3, 2)),
    # flat kernels
    Case((2, 3, 6, 9), (4, 3, 1, 5), pad=(0, 2)),
    Case((2, 3, 9, 6), (4, 3, 5, 1), pad=(2, 0)),
    Case((2, 3, 6, 9), (4, 3, 1, 4), stride=(2, 1)),
    Case((2, 3, 9, 6), (4, 3, 4, 1), stride=(1, 2)),
    # dilation
    Case((2, 3, 9, 9), (2, 3, 3, 3), dilation=2),
    Case((2, 3, 9, 9), (2, 3, 3, 3), dilation=2, pad=2),
    Case((1, 2, 12, 11), (3, 2, 3, 2), dilation=(3, 4), pad=2, stride=2),
    Case((1, 2, 12, 11), (3, 2, 2, 3), dilation=(2, 1), stride=(3, 2)),
    Case((1, 2, 4, 4), (3, 2, 3, 3), dilation=4, pad=4),
    Case((1, 2, 5, 5), (2, 2, 2, 2), dilation=4),
    # taps further apart than blocks are long, or than the image: what lies between them is not staged
    Case((1, 40, 30, 31), (33, 40, 3, 3), dilation=11, pad=11),
    Case((2, 9, 25, 23), (8, 9, 4, 3), dilation=(7, 9), pad=(10, 9)),
    Case((1, 5, 33, 40), (40, 5, 3, 4), dilation=(13, 12), pad=(13, 20), stride=2),
    Case((2, 7, 12, 70), (9, 7, 2, 2), dilation=(2, 30), pad=(1, 15), stride=2),
    Case((1, 20, 29, 27), (70, 20, 3, 3), dilation=9, pad=9, stride=(3, 2)),
    Case((1, 12, 5, 90), (14, 6, 3, 5), dilation=(5, 19), pad=(5, 38), groups=2),
    # groups, depthwise, depthwise with a multiplier
    Case((2, 4, 6, 6), (6, 2, 3, 3), groups=2, pad=1),
    Case((2, 6, 6, 5), (3, 2, 3, 3), groups=3, pad=1, stride=2),
    Case((2, 6, 5, 6), (6, 3, 1, 1), groups=2),
    Case((1, 34, 5, 5), (38, 17, 3, 3), groups=2, pad=1),
    Case((2, 5, 7, 8), (5, 1, 3, 3), groups=5, pad=1),
    Case((2, 5, 7, 8), (5, 1, 3, 3), groups=5, pad=1, bias=False),
    Case((2, 5, 9, 8), (5, 1, 3, 3), groups=5, pad=1, stride=2),
    Case((2, 33, 7, 6), (33, 1, 5, 5), groups=33, pad=2),
    Case((1, 17, 9, 9), (17, 1, 3, 3), groups=17, dilation=2, pad=2),
    Case((1, 3, 20, 35), (3, 1, 7, 7), groups=3, pad="same"),
    Case((2, 4, 6, 7), (8, 1, 3, 3), groups=4, pad=1),
    Case((2, 3, 6, 7), (15, 1, 2, 3), groups=3, stride=(2, 1)),
    Case((0, 4, 6, 7), (4, 1, 3, 3), groups=4, pad=1),
    # depthwise along the rows: whole vectors and ends of several images, bands, strides, multipliers
    Case((3, 5, 6, 35), (5, 1, 3, 3), groups=5, pad=1),
    Case((2, 2, 90, 150), (2, 1, 3, 3), groups=2, pad=1, stride=2),
    Case((1, 2, 70, 130), (2, 1, 3, 3), groups=2, pad=1),
    Case((2, 2, 13, 45), (4, 1, 3, 4), groups=2, stride=(2, 3), pad=(1, 2), dilation=(2, 1)),
    Case((2, 2, 7, 67), (6, 1, 3, 3), groups=2, stride=(1, 2), pad=((0, 2), (1, 0))),
    # more rows than rows of dout, rows so wide that a band has few of them
    Case((1, 1, 12, 1130), (1, 1, 3, 3)),
    Case((1, 2, 12, 1130), (2, 1, 3, 3), groups=2, stride=(1, 2)),
    Case((1, 2, 12, 1130), (2, 1, 3, 3), groups=2, stride=(2, 1)),
    Case((1, 1, 11, 1130), (2, 1, 5, 3), stride=(3, 1)),
    # a window that reaches further than a band has rows
    Case((1, 2, 300, 64), (2, 1, 3, 1), groups=2, dilation=(100, 1)),
    # depthwise across channels: rests of lanes, bands, planes smaller than a vector, strides, multipliers
    Case((2, 20, 12, 11), (20, 1, 3, 3), groups=20, pad=1),
    Case((1, 9, 130, 20), (9, 1, 3, 3), groups=9, pad=1),
    Case((2, 17, 3, 3), (17, 1, 3, 3), groups=17, pad=1),
    Case((2, 9, 13, 12), (9, 1, 3, 2), groups=9, stride=(3, 2), pad=2, dilation=(1, 2)),
    Case((2, 10, 9, 10), (30, 1, 3, 3), groups=10, stride=2, pad=1),
    Case((3, 18, 14, 14), (18, 1, 5, 5), groups=18, stride=2, pad="same", bias=False),
    # channel and filter counts on both sides of every register block
    Case((1, 13, 4, 5), (14, 13, 3, 3), pad=1),
    Case((1, 15, 4, 5), (16, 15, 3, 3), pad=1),
    Case((1, 16, 5, 4), (17, 16, 3, 3), pad=1),
    Case((1, 29, 4, 4), (31, 29, 3, 3), pad=1),
    Case((1, 31, 4, 4), (32, 31, 3, 3), pad=1),
    Case((1, 33, 3, 5), (33, 33, 3, 3), pad=1),
    Case((1, 64, 4, 4), (64, 64, 3, 3), pad=1),
    Case((1, 70, 3, 3), (67, 70, 3, 3), pad=1),
    Case((1, 1, 6, 6), (69, 1, 3, 3), pad=1),
    Case((1, 69, 6, 6), (1, 69, 3, 3), pad=1),
    Case((1, 130, 3, 3), (5, 130, 3, 3), pad=1),
    Case((1, 300, 2, 3), (9, 300, 1, 1)),
    Case((1, 3, 3, 3), (260, 3, 1, 1)),
    # widths on both sides of every vector, images with many rows, batches of any size
    Case((1, 2, 3, 13), (3, 2, 3, 3), pad=1),
    Case((1, 2, 3, 16), (3, 2, 3, 3), pad=1),
    Case((1, 2, 3, 17), (3, 2, 3, 3), pad=1),
    Case((1, 2, 2, 31), (3, 2, 1, 3), pad=(0, 1)),
    Case((1, 2, 2, 33), (3, 2, 1, 3), pad=(0, 1)),
    Case((1, 2, 1, 130), (3, 2, 1, 4)),
    Case((1, 3, 40, 37), (5, 3, 3, 3), pad=1),
    Case((1, 3, 40, 37), (5, 3, 3, 3), pad=1, stride=2),
    Case((1, 2, 37, 40), (3, 2, 1, 1)),
    Case((7, 2, 5, 5), (3, 2, 3, 3), pad=1),
    Case((33, 2, 3, 3), (3, 2, 3, 3), pad=1),
    Case((9, 14, 3, 4), (15, 14, 2, 2)),
    # filters in the vector lanes: rows that fit no vector; several chunks of channels, panels and blocks
    Case((2, 40, 7, 7), (70, 40, 3, 3), pad=2, dilation=2),
    Case((1, 300, 5, 5), (35, 300, 1, 1)),
    Case((2, 20, 17, 17), (50, 20, 1, 7), pad=(0, 3)),
    Case((2, 18, 9, 13), (20, 18, 5, 5), pad=2, bias=False),
    Case((1, 33, 13, 13), (34, 33, 1, 1), stride=2, pad=1),
    Case((2, 130, 9, 9), (66, 65, 3, 3), groups=2, pad=1, stride=2),
    Case((1, 70, 3, 3), (100, 70, 3, 3)),
    # dx at a column stride of two, whose even and odd columns are made together, over several chunks
    Case((2, 20, 9, 13), (210, 20, 3, 3), pad=1, stride=2),
    Case((1, 9, 12, 41), (190, 9, 3, 3), pad=1, stride=2),
    Case((2, 44, 11, 8), (280, 22, 4, 3), groups=2, stride=(1, 2), bias=False),
    Case((1, 5, 7, 70), (130, 5, 2, 5), pad=(0, 3), stride=(2, 2)),
    # the last block of columns is narrower, but its tiles are wider
    Case((1, 500, 17, 17), (32, 500, 1, 1)),
    Case((1, 1000, 17, 17), (32, 1000, 1, 1), bias=False),
    # large results: panels of dout that all channels share, several blocks of positions, rests of lanes
    Case((2, 130, 25, 23), (33, 130, 1, 1)),
    Case((3, 62, 41, 39), (9, 62, 3, 3), pad=1, stride=2),
    Case((1, 224, 33, 33), (26, 112, 3, 1), groups=2),
    Case((12, 64, 5, 4), (15, 64, 3, 3), pad=2, dilation=2, bias=False),
    Case((2, 64, 12, 11), (10, 64, 1, 7), pad=(0, 3)),
    # 1x1 kernels on large planes: long dot products
    Case((3, 24, 27, 25), (33, 24, 1, 1)),
    Case((2, 14, 40, 37), (4, 7, 1, 1), groups=2, bias=False),
    # the kernel covers the image: an affine layer
    Case((5, 16, 5, 5), (20, 16, 5, 5)),
    Case((70, 3, 4, 6), (9, 3, 4, 6), bias=False),
    Case((0, 3, 2, 2), (4, 3, 2, 2)),
    Case((3, 40, 3, 2), (70, 40, 3, 2), pad=((0, 1), (0, 1)), stride=2),
    Case((1, 600, 1, 1), (33, 600, 1, 1), dilation=2),
    # long kernel rows, whose taps are the rows of a tile in dw
    Case((3, 3, 29, 31), (30, 3, 7, 11), stride=(2, 3), pad=(3, 4), dilation=(2, 1)),
    Case((20, 10, 6, 7), (32, 5, 3, 5), groups=2, pad=(1, 2)),
    Case((2, 7, 23, 20), (16, 7, 5, 5), pad=2, bias=False),
    # first layers: few channels, more filters, rows of at least a vector, enough images for several sums
    Case((2, 5, 18, 23), (70, 5, 3, 3), pad=1),
    Case((3, 10, 18, 23), (58, 5, 3, 3), groups=2, pad=1, bias=False),
    Case((2, 3, 19, 21), (12, 3, 3, 3), pad=1),
    Case((2, 3, 16, 16), (8, 3, 3, 3), pad=1),
    Case((30, 3, 9, 33), (9, 3, 3, 3), pad=1, stride=2),
    Case((3, 3, 19, 37), (11, 3, 3, 3), stride=2),
    Case((2, 1, 20, 34), (8, 1, 5, 5), pad=2),
    Case((2, 6, 8, 70), (10, 6, 4, 3), pad=(1, 2), stride=(1, 3)),
    Case((2, 2, 23, 67), (13, 2, 3, 5), pad=(4, 3), stride=(3, 4), dilation=(2, 1)),
    Case((2, 3, 40, 43), (8, 3, 7, 7), pad=3, stride=2),
    Case((1, 3, 70, 67), (8, 3, 3, 3), pad=1, stride=(2, 1)),
    Case((3, 6, 12, 20), (20, 3, 3, 3), pad=1, groups=2),
    Case((3, 3, 21, 37), (2, 3, 3, 3), pad=1),
    Case((2, 1, 20, 29), (6, 1, 5, 5), pad=2),
    Case((2, 5, 19, 18), (1, 5, 3, 2), pad=1, bias=False),
    Case((2, 6, 20, 33), (6, 2, 2, 2), groups=3),
    Case((2, 3, 12, 19), (9, 3, 3, 2), pad=((0, 1), (2, 0)), stride=2, bias=False),
]

ALGORITHMS = ["auto", "direct", "winograd"]
# Shapes that every algorithm can do: kernels of any size but 1x1, 1x2 and 2x1 at stride 1, and 3x3 to 5x5 at
# stride 2, padded by less than a kernel.
ALGORITHM_CASES = [
    Case((2, 3, 9, 8), (4, 3, 6, 7), pad=(5, 2)),
    Case((1, 9, 5, 11), (3, 9, 2, 3), pad=1),
    Case((2, 2, 12, 1), (3, 2, 11, 1), pad=(10, 0)),
    Case((1, 4, 1, 50), (6, 2, 1, 22), pad=(0, 11), groups=2),
    Case((1, 3, 19, 20), (2, 3, 9, 8), dilation=2, pad=(16, 3)),
    Case((1, 1, 3, 3), (1, 1, 3, 3)),
    Case((1, 1, 1, 1), (1, 1, 3, 3), pad=1),
    Case((1, 2, 1, 1), (3, 2, 3, 3), pad=2),
    Case((0, 2, 5, 5), (3, 2, 3, 3), pad=1),
    Case((2, 3, 4, 4), (4, 3, 3, 3), pad=1),
    Case((2, 3, 6, 6), (4, 3, 3, 3)),
    Case((2, 3, 7, 9), (4, 3, 3, 3)),
    Case((2, 3, 5, 13), (4, 3, 3, 3), pad=2),
    Case((9, 13, 4, 5), (14, 13, 3, 3), pad=1),
    Case((1, 31, 5, 4), (29, 31, 3, 3), pad=(0, 1)),
    Case((1, 64, 4, 4), (65, 64, 3, 3), pad=1),
    Case((1, 2, 40, 37), (3, 2, 3, 3), pad="same"),
    Case((2, 16, 9, 17), (15, 16, 3, 3), pad="valid"),
    Case((2, 3, 8, 8), (4, 3, 3, 3), pad=1),
    Case((1, 17, 9, 13), (33, 17, 3, 3), pad=1),
    Case((3, 16, 6, 5), (16, 16, 3, 3)),
    Case((2, 8, 7, 7), (5, 8, 3, 3), pad=((2, 1), (0, 1)), bias=False),
    Case((1, 5, 3, 3), (6, 5, 3, 3), pad="same"),
    Case((1, 1, 5, 5), (1, 1, 5, 5)),
    Case((1, 2, 1, 1), (3, 2, 5, 5), pad=4),
    Case((2, 3, 7, 9), (4, 3, 5, 5), pad=2),
    Case((1, 17, 9, 12), (33, 17, 5, 5), pad=((4, 0), (1, 3))),
    Case((3, 8, 8, 21), (35, 8, 5, 5), pad="same", bias=False),
    # stride 2
    Case((1, 1, 3, 3), (1, 1, 3, 3), stride=2),
    Case((1, 2, 1, 1), (3, 2, 3, 3), stride=2, pad=1),
    Case((2, 3, 9, 10), (4, 3, 3, 3), stride=2, pad=1),
    Case((2, 17, 18, 33), (35, 17, 3, 3), stride=2),
    Case((1, 33, 17, 16), (15, 33, 3, 3), stride=2, pad=2),
    Case((3, 8, 8, 7), (34, 8, 3, 3), stride=2, pad=((0, 1), (1, 0)), bias=False),
    Case((2, 6, 7, 24), (8, 3, 3, 3), stride=2, pad=((2, 1), (1, 2)), groups=2),
    Case((1, 64, 34, 5), (65, 64, 3, 3), stride=2, pad=1),
    Case((1, 1, 4, 4), (1, 1, 4, 4), stride=2),
    Case((1, 2, 1, 2), (3, 2, 4, 4), stride=2, pad=((2, 1), 1)),
    Case((2, 17, 18, 33), (35, 17, 4, 4), stride=2, pad=1),
    Case((1, 33, 17, 16), (15, 33, 4, 4), stride=2, pad=((3, 2), (0, 1)), bias=False),
    Case((2, 6, 7, 24), (8, 3, 4, 4), stride=2, pad="same", groups=2),
    Case((1, 2, 1, 1), (3, 2, 5, 5), stride=2, pad=2),
    Case((2, 17, 18, 33), (35, 17, 5, 5), stride=2, pad=2),
    Case((1, 33, 17, 16), (15, 33, 5, 5), stride=2, pad=((4, 3), (0, 1)), bias=False),
    Case((2, 6, 7, 24), (8, 3, 5, 5), stride=2, pad="same", groups=2),
    # kernels without a middle
    Case((1, 1, 2, 2), (1, 1, 2, 2)),
    Case((2, 17, 9, 13), (33, 17, 2, 2), pad="same"),
    Case((2, 6, 12, 11), (4, 3, 2, 2), groups=2, dilation=(3, 2), pad=(3, 1), bias=False),
    Case((1, 2, 1, 1), (3, 2, 4, 4), pad=3),
    Case((2, 17, 9, 13), (33, 17, 4, 4), pad=1),
    Case((2, 6, 14, 11), (4, 3, 4, 4), groups=2, dilation=(2, 1), pad=((6, 1), (0, 3)), bias=False),
    # lines
    Case((2, 3, 4, 9), (4, 3, 1, 3), pad=(0, 1)),
    Case((2, 3, 9, 4), (4, 3, 3, 1), pad=((1, 2), 0)),
    Case((1, 2, 3, 1), (3, 2, 1, 5), pad=(0, 4)),
    Case((2, 18, 5, 21), (34, 18, 1, 5), pad="same"),
    Case((3, 17, 13, 6), (16, 17, 5, 1), bias=False),
    Case((1, 1, 1, 7), (1, 1, 1, 7)),
    Case((2, 33, 4, 17), (19, 33, 1, 7), pad="same"),
    Case((2, 19, 17, 17), (33, 19, 7, 1), pad=((6, 1), 0)),
    Case((1, 4, 20, 9), (6, 2, 7, 1), groups=2, dilation=(2, 1), pad=(5, 0)),
    Case((2, 3, 5, 23), (4, 3, 1, 7), dilation=(1, 3), pad=(0, 9)),
    # one row of many tiles, and tiles of many rows
    Case((1, 5, 1, 400), (6, 5, 1, 7)),
    Case((1, 5, 2, 300), (6, 5, 3, 3), pad=1),
    Case((3, 5, 60, 31), (6, 5, 3, 3)),
    # groups
    Case((2, 6, 7, 6), (4, 3, 3, 3), groups=2, pad=1),
    Case((2, 3, 7, 6), (3, 1, 5, 5), groups=3, pad=2),
    Case((1, 36, 5, 9), (34, 18, 3, 3), groups=2),
    # dilation: phases of equal and of unequal size, some without an output
    Case((1, 5, 19, 28), (6, 5, 3, 3), dilation=2, pad=2),
    Case((2, 3, 9, 11), (4, 3, 3, 3), dilation=2, pad=2),
    Case((1, 2, 10, 7), (3, 2, 3, 3), dilation=(3, 1), pad=(4, 1)),
    Case((2, 3, 4, 5), (4, 3, 3, 3), dilation=4, pad=(8, 3)),
    Case((1, 4, 17, 12), (6, 2, 5, 5), groups=2, dilation=(2, 3), pad=((3, 8), (0, 12))),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_naive(case, isa, dtype):
    x, w, b, dout, want, want_gradients = reference(case)
    got, cache = conv_forward(*cast((x, w, b), dtype), case.conv_param)
    assert_close(got, want, dtype)
    assert_all_close(conv_backward(dout.astype(dtype), cache), want_gradients, dtype)


FAR_CASES = [
    Case((2, 3, 8, 7), (4, 3, 3, 3)),
    Case((1, 9, 8, 7), (10, 9, 3, 2), stride=(1, 2)),
    Case((2, 20, 8, 8), (20, 1, 3, 3), groups=20),
    Case((1, 4, 7, 9), (6, 2, 2, 3), groups=2, stride=2),
]


# Sides of the padding in dilations: the image meets the tap in the middle, that in a corner, or none.
@pytest.mark.parametrize("sides", [(1, 1), (2, 0), (0.5, 1.5)], ids=str)
@pytest.mark.parametrize("case", FAR_CASES, ids=str)
def test_taps_beyond_the_image_read_padding_at_no_cost(case, sides, isa, dtype):
    x, w, b = inputs(case)

    def param(dilation):
        pads = [[int(side * dilation * (K - 1) / 2) for side in sides] for K in w.shape[2:]]
        return {**case.conv_param, "dilation": dilation, "pad": pads}

    far, near = param(2**20), param(40)
    plans = cnnlib.explain(x.shape, w.shape, far, dtype)
    assert max(plans.forward.scratch_bytes, plans.input_gradient.scratch_bytes) < 4 << 20
    dout, (out, *gradients) = conv_results(
        x, w, b, near, lambda shape: np.cos(np.arange(np.prod(shape))).reshape(shape)
    )
    got, cache = conv_forward(*cast((x, w, b), dtype), far)
    assert_close(got, out, dtype)
    assert_all_close(conv_backward(dout.astype(dtype), cache), gradients, dtype)


def test_what_lies_between_distant_taps_is_not_staged(isa):
    def scratch(dilation):
        param = {"pad": dilation, "dilation": dilation, "algorithm": "direct"}
        plans = cnnlib.explain((1, 64, 100, 100), (64, 64, 3, 3), param)
        return np.array(
            [plan.scratch_bytes for plan in (plans.forward, plans.input_gradient, plans.weight_gradient)]
        )

    for dilation in (50, 100):
        assert (scratch(dilation) < 4 * scratch(1)).all()


def test_empty_dict_means_stride_1_and_no_padding(rng):
    x, w, b = random_arrays(rng, (2, 3, 6, 5), (4, 3, 3, 2), (4,))
    np.testing.assert_array_equal(
        conv_forward(x, w, b, {})[0], conv_forward(x, w, b, {"stride": 1, "pad": 0})[0]
    )


@pytest.mark.parametrize(
    "spelled",
    [
        {"stride": np.int64(2), "pad": np.int32(1), "dilation": np.uint8(1), "groups": np.int16(2)},
        {"stride": (2, 2), "pad": ((1, 1), (1, 1)), "groups": 2},
        {"stride": 2, "pad": [1, 1], "dilation": [1, 1], "groups": 2},
        {"stride": 2, "pad": 1, "groups": 2, "algorithm": "auto"},
        types.MappingProxyType({"stride": 2, "pad": 1, "groups": 2}),
    ],
    ids=["numpy integers", "pairs", "lists", "algorithm", "a mapping"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_parameter_means_the_same_however_it_is_spelled(rng, spelled, dtype):
    x, w, b = cast(random_arrays(rng, (2, 4, 6, 5), (4, 2, 3, 3), (4,)), dtype)
    plain = {"stride": 2, "pad": 1, "groups": 2}
    got, cache = conv_forward(x, w, b, spelled)
    want, plain_cache = conv_forward(x, w, b, plain)
    np.testing.assert_array_equal(got, want)
    gradients = conv_backward(got, cache)
    assert gradients[0].shape == x.shape
    for g, p in zip(gradients, conv_backward(want, plain_cache)):
        np.testing.assert_array_equal(g, p)


def test_caller_keeps_its_parameter_dict(rng):
    x, w, b = random_arrays(rng, (1, 3, 6, 5), (4, 3, 3, 3), (4,))
    param = {"stride": (1, 2), "pad": "same"}
    out, cache = conv_forward(x, w, b, param)
    conv_backward(out, cache)
    assert param == {"stride": (1, 2), "pad": "same"}


def test_cache_unpacks_to_the_arguments(rng):
    x, w, b = random_arrays(rng, (2, 3, 6, 5), (4, 3, 3, 3), (4,))
    _, cache = conv_forward(x, w, b, {"stride": 1, "pad": 1})
    assert isinstance(cache, tuple)
    cached_x, cached_w, cached_b, param = cache
    for cached, array in ((cached_x, x), (cached_w, w), (cached_b, b)):
        np.testing.assert_array_equal(cached, array)
    assert (param["stride"], param["pad"]) == (1, 1)


def test_backward_twice_gives_the_same(rng):
    x, w, b, dout = random_arrays(rng, (2, 3, 6, 5), (4, 3, 3, 3), (4,), (2, 4, 4, 3))
    _, cache = conv_forward(x, w, b, {})
    for first, second in zip(conv_backward(dout, cache), conv_backward(dout, cache), strict=True):
        assert not np.shares_memory(first, second)
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("value", [np.nan, -np.inf], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case((2, 3, 7, 9), (5, 3, 3, 3), pad=1),
        Case((2, 3, 7, 9), (5, 3, 3, 3), stride=2, pad=1),
        Case((2, 3, 7, 9), (5, 3, 1, 1)),
        Case((2, 5, 7, 9), (5, 1, 3, 3), groups=5, pad=1),
    ],
    ids=str,
)
def test_a_value_that_is_not_finite_reaches_its_outputs_and_no_others(case, value, isa, dtype):
    x, w, b, dout, _, _ = reference(case)
    x, dout = x.copy(), dout.copy()
    x[1, 2, 0, 4] = value  # which not every tap reaches
    with np.errstate(invalid="ignore"):
        want, cache = conv_forward_naive(x, w, b, case.conv_param)
        _, dw, _ = conv_backward_naive(dout, cache)
    got, cache = conv_forward(*cast((x, w, b), dtype), {**case.conv_param, "algorithm": "direct"})
    assert_close(got, want, dtype)
    _, got_dw, _ = conv_backward(dout.astype(dtype), cache)
    np.testing.assert_array_equal(np.isfinite(got_dw), np.isfinite(dw))

    x, w, b, *_ = reference(case)
    dout[1, 2, 2, 1] = value
    with np.errstate(invalid="ignore"):
        dx, _, db = conv_backward_naive(dout, (x, w, b, case.conv_param))
    cache = (*cast((x, w, b), dtype), {**case.conv_param, "algorithm": "direct"})
    got_dx, got_dw, got_db = conv_backward(dout.astype(dtype), cache)
    assert_close(got_dx, dx, dtype)
    assert_close(got_db, db, dtype)
    # Whether a padding pixel (0 times infinity) spoils its weight is left open; the others must show it.
    assert not np.isfinite(got_dw[2, 0, case.w[2] // 2, case.w[3] // 2])
    assert np.isfinite(np.delete(got_dw, 2, axis=0)).all()


def test_infinity_times_a_zero_weight_is_nan(isa, dtype):
    x = np.zeros((1, 2, 5, 5), dtype)
    x[0, 1, 2, 2] = np.inf
    w = np.zeros((3, 2, 3, 3), dtype)
    out, _ = conv_forward(x, w, None, {"pad": 1, "algorithm": "direct"})
    assert np.isnan(out[:, :, 1:4, 1:4]).all()
    assert np.isnan(out).sum() == 3 * 9


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("size", "tiles"), [((21, 22), (8, 12)), ((14, 15), (5, 15))], ids=str)
def test_what_is_not_finite_never_vanishes(algorithm, value, size, tiles, isa, dtype, rng):
    """Winograd may spread it over the 4x4 or 5x5 outputs of a tile that it touches, and no further."""
    x, w, b = cast(random_arrays(rng, (2, 16, *size), (16, 16, 3, 3), (16,)), dtype)
    param = {"pad": 1, "algorithm": algorithm}
    x[1, 3, 9, 10] = value
    out, _ = conv_forward(x, w, b, param)
    assert not np.isfinite(out[1, :, 8:11, 9:12]).any()
    out[1, :, slice(*tiles), slice(*tiles)] = 0
    assert np.isfinite(out).all()

    finite, cache = conv_forward(np.ones_like(x), w, b, param)
    dout = np.ones_like(finite)
    dout[1, 3, 9, 10] = value
    dx, dw, db = conv_backward(dout, cache)
    assert not np.isfinite(dx[1, :, 8:11, 9:12]).any()
    dx[1, :, slice(*tiles), slice(*tiles)] = 0
    assert np.isfinite(dx).all()
    assert not np.isfinite(dw[3]).any()
    assert np.isfinite(np.delete(dw, 3, axis=0)).all()
    np.testing.assert_array_equal(np.isfinite(db), np.arange(16) != 3)


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 2, 8, 8), (3, 2, 3, 3), stride=3),
        Case((1, 2, 8, 8), (3, 2, 3, 3), stride=(1, 2)),
        Case((1, 2, 8, 8), (3, 2, 2, 2), stride=2),
        Case((1, 2, 9, 9), (3, 2, 5, 5), stride=2, dilation=2),
        Case((1, 2, 8, 8), (3, 2, 3, 3), stride=2, dilation=2),
        Case((1, 2, 8, 8), (3, 2, 3, 3), stride=2, pad=3),
        Case((1, 2, 8, 8), (3, 2, 3, 3), stride=2, pad=((0, 5), (0, 0))),
        Case((1, 2, 8, 8), (3, 2, 6, 6), stride=2),
        Case((1, 2, 8, 8), (3, 2, 3, 4), stride=2),
        Case((1, 2, 8, 8), (3, 2, 4, 4), stride=2, pad=4),
        Case((1, 2, 8, 8), (3, 2, 1, 2)),
        Case((1, 2, 8, 8), (3, 2, 2, 1)),
        Case((1, 2, 8, 8), (3, 2, 1, 1)),
        Case((1, 2, 8, 8), (3, 2, 7, 1), stride=(2, 1)),
        Case((1, 2, 8, 8), (3, 2, 1, 7), pad=((0, 0), (7, 0))),
        Case((1, 2, 8, 8), (3, 2, 3, 3), pad=3),
        Case((1, 2, 8, 8), (3, 2, 3, 3), pad=((0, 5), (0, 0))),
        Case((1, 2, 8, 8), (3, 2, 3, 3), pad=5, dilation=2),
    ],
    ids=str,
)
def test_winograd_refuses_what_it_cannot_do(case):
    x, w, b = inputs(case)
    with pytest.raises(ValueError, match=r"conv_forward: algorithm 'winograd' needs"):
        conv_forward(x, w, b, {**case.conv_param, "algorithm": "winograd"})
    out, (x, w, b, param) = conv_forward(x, w, b, case.conv_param)
    with pytest.raises(ValueError, match=r"conv_backward: algorithm 'winograd' needs"):
        conv_backward(out, (x, w, b, {**param, "algorithm": "winograd"}))


@pytest.fixture
def conv_algorithm():
    """Call it to choose the process's algorithm; the test's end restores it."""
    previous = cnnlib.get_conv_algorithm()
    yield cnnlib.set_conv_algorithm
    cnnlib.set_conv_algorithm(previous)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_algorithm_of_the_process(algorithm, conv_algorithm):
    # Large enough for "auto" to take Winograd's; four channels in groups, which it cannot do.
    shapes = [((1, 3, 8, 8), (4, 3, 3, 3)), ((1, 32, 16, 16), (32, 32, 3, 3))]
    rng = np.random.default_rng(4)
    calls = [(*cast(random_arrays(rng, *pair), np.float32), None) for pair in shapes]
    named = [both_passes(*call, {"pad": 1, "algorithm": algorithm}) for call in calls]
    autos = [both_passes(*call, {"pad": 1, "algorithm": "auto"}) for call in calls]
    assert any(not np.array_equal(a, b) for pair in zip(named, autos) for a, b in zip(*pair))
    conv_algorithm(algorithm)
    assert cnnlib.get_conv_algorithm() == algorithm
    for call, want in zip(calls, named):
        for param in ({"pad": 1}, {"stride": 1, "pad": 1}, {"pad": 1, "algorithm": "auto"}):
            for a, b in zip(both_passes(*call, param), want):
                np.testing.assert_array_equal(a, b)
    strided, _ = conv_forward(*calls[1], {"pad": 1, "stride": 3})
    conv_algorithm("auto")
    np.testing.assert_array_equal(strided, conv_forward(*calls[1], {"pad": 1, "stride": 3})[0])


def both_passes(x, w, b, param):
    out, cache = conv_forward(x, w, b, param)
    return out, *conv_backward(out, cache)[:2]


@functools.cache
def many_channels():
    """x, w, dout with sums over 200 channels or 150 filters, and out, dx, dw."""
    rng = np.random.default_rng(3)
    x, w, dout = random_arrays(rng, (2, 200, 9, 8), (150, 200, 3, 3), (2, 150, 7, 6))
    _, (out, dx, dw, _) = conv_results(x, w, None, {}, lambda shape: dout)
    return x, w, dout, out, dx, dw


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_many_channels_keep_accuracy(algorithm, isa, dtype):
    x, w, dout, want, want_dx, want_dw = many_channels()
    out, cache = conv_forward(*cast((x, w), dtype), None, {"algorithm": algorithm})
    assert_close(out, want, dtype)
    dx, dw, _ = conv_backward(dout.astype(dtype), cache)
    assert_close(dx, want_dx, dtype)
    assert_close(dw, want_dw, dtype)


def test_long_sums_keep_float32_accuracy(isa, rng):
    """dw sums 2 * 60 * 60 products; the error has to stay near that of one rounding."""
    x, w, dout = random_arrays(rng, (2, 2, 62, 62), (2, 2, 3, 3), (2, 2, 60, 60))
    x, dout = cast((x + 1, dout + 1), np.float32)
    wide = x.astype(np.float64), w, None, {}, lambda shape: dout.astype(np.float64)
    _, (_, _, want, _) = conv_results(*wide)
    _, dw, _ = conv_backward(dout, (x, w.astype(np.float32), None, {}))
    assert rel_error(dw, want) < 2e-6


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])  # of which 'auto' takes one
@pytest.mark.parametrize("case", ALGORITHM_CASES, ids=str)
def test_algorithms_agree_with_naive(case, algorithm, isa, dtype):
    """After calls on NaN alone: memory that is used again is full of them."""
    x, w, b, dout, want, want_gradients = reference(case)
    x, w, b, dout = cast((x, w, b, dout), dtype)
    param = {**case.conv_param, "algorithm": algorithm}
    larger = np.full((3, 70, 20, 20), np.nan, dtype), np.full((70, 70, 3, 3), np.nan, dtype), None
    with np.errstate(invalid="ignore"):
        for arrays, p in ((larger, {"pad": 1, "algorithm": algorithm}), ((np.nan * x, np.nan * w, b), param)):
            out, cache = conv_forward(*arrays, p)
            conv_backward(out, cache)
    out, cache = conv_forward(x, w, b, param)
    assert_close(out, want, dtype)
    assert_all_close(conv_backward(dout, cache), want_gradients, dtype)

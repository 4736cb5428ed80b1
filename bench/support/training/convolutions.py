"""The convolutions of the networks of a training step, as cases to time."""

from __future__ import annotations

from collections import Counter

import numpy as np
from cnnlib.graph.shapes import shapes
from cnnlib.models import ConvNet

from support.shapes import ConvCase
from support.training import own


def cases(batch):
    """ConvCase -> how often a step of its `group`, one of own.NETWORKS, computes it.

    Padding 'same' stands as half the kernel on either side, which at stride 2 moves it by a pixel.
    """
    found = Counter()
    for name in own.NETWORKS:
        net = own.model(name, np.float32)
        if not isinstance(net, ConvNet):  # the course's net
            C, H, W = own.INPUT_DIM
            F, _, K, _ = net.params["W1"].shape
            found[ConvCase(name, C, F, K, K, H, W, pad=(K // 2, K // 2), N=batch)] += 1
            continue
        _count(found, name, net, batch)
    return found


def _count(found, name, net, batch):
    sizes = shapes(net.graph(), net.params, own.INPUT_DIM)
    for node in net.graph():
        if node.layer == "conv":
            F, _, KH, KW = net.params[node.params[0]].shape
            C, H, W = sizes[node.inputs[0]]
            param = node.args[0]
            options = {"stride": param["stride"], "groups": param.get("groups", 1)}
            found[ConvCase(name, C, F, KH, KW, H, W, pad=(KH // 2, KW // 2), N=batch, **options)] += 1

"""The convolutions of the networks of a training step, as cases to time."""

from __future__ import annotations

from collections import Counter

import numpy as np
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
        _walk(found, name, net, net._stages, own.INPUT_DIM, batch)
    return found


def _walk(found, name, net, stages, shape, batch):
    for stage in stages:
        if stage.layer == "conv":
            F, _, KH, KW = net.params[stage.names[0]].shape
            param = stage.args[0]
            found[
                ConvCase(
                    name,
                    *(shape[0], F, KH, KW, *shape[1:]),
                    stride=param["stride"],
                    pad=(KH // 2, KW // 2),
                    groups=param.get("groups", 1),
                    N=batch,
                )
            ] += 1
        for _, part in stage.parts:  # body and shortcut of a residual block, both from its input
            _walk(found, name, net, part, shape, batch)
        shape = stage.shape

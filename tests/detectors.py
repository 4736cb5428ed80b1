"""A small network that finds a coloured square, with the outputs of the YOLO family."""

import cnnlib
import numpy as np
from cnnlib.detection import DetectionHead
from cnnlib.models import Graph, GraphNet

SIZE, SIDE = 32, 8  # of the network's images and of the square in them, in pixels
NAMES = ("red", "green", "blue")
EXTRAS = {"detect": 0, "segment": 1, "pose": 6}


def photo(top, left, channel, scale=1):
    """A black photo (3, 32, 32), times `scale`, with a bright square whose corner lies there."""
    pixels = np.zeros((3, SIZE, SIZE), np.uint8)
    pixels[channel, top : top + SIDE, left : left + SIDE] = 255
    return pixels.repeat(scale, axis=1).repeat(scale, axis=2)


def square_net(task="detect", dtype=np.float32):
    """A network (3, 32, 32) -> (N, 4 + 3 + E, 1, 1) that finds a square by its colour and centre of mass.

    For 'segment' its prototype is bright where the image is, for 'pose' its two key points are the middle and
    the first corner of the square.
    """
    w, b = np.zeros((4 + len(NAMES) + EXTRAS[task], 3, SIZE, SIZE)), np.zeros(4 + len(NAMES) + EXTRAS[task])
    centres = (np.arange(SIZE) + 0.5) / SIDE**2
    x, y = centres[None, None, :], centres[None, :, None]
    w[0], w[1], b[2:4] = x, y, SIDE
    for k in range(len(NAMES)):
        w[4 + k, k] = 1 / SIDE**2
    if task == "segment":
        b[7] = 1
    if task == "pose":
        w[7] = w[10] = x
        w[8] = w[11] = y
        b[7:] = 0, 0, 0.9, -SIDE / 2, -SIDE / 2, 0.4
    params = {"W": w, "b": b}
    graph = Graph(outputs=("boxes", "masks") if task == "segment" else ())
    boxes = graph.conv("W", "b", name="boxes")
    if task == "segment":
        params |= {"W_mask": np.full((1, 3, 4, 4), 1 / 16), "b_mask": np.full(1, -0.3)}
        graph.conv("W_mask", "b_mask", stride=4, x=graph.input, name="masks")
    else:
        graph.output = boxes
    net = GraphNet(graph, params, (3, SIZE, SIZE), dtype=dtype)
    net.preprocess, net.head = cnnlib.data.Normalization(0, 255), "values"
    net.detection = DetectionHead(NAMES, task, (SIZE, SIZE), SIZE, (2, 3) if task == "pose" else None)
    return net

"""The pool of buffers: what a step has released serves the next one."""

import numpy as np
import pytest
from cnnlib import _core, layers
from cnnlib.convnet import NAMED_SPECS, ConvNet

SIZES = 1 << 20, 3 << 20, 5 << 20  # bytes


@pytest.fixture(autouse=True)
def one_thread(num_threads):
    """How many buffers several threads hold at a time is a matter of chance."""
    num_threads(1)


def counted(run):
    """What `run` returned, and the buffers it acquired and those that were new."""
    before = _core.buffer_counts()
    result = run()
    return result, *(b - a for a, b in zip(before, _core.buffer_counts(), strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_a_released_buffer_is_taken_again(size):
    x = np.ones(size // 4, np.float32)
    kept = [layers.relu_forward(x)[0] for _ in range(3)]
    address = kept[-1].ctypes.data
    del kept[-1]
    (y, _), acquired, fresh = counted(lambda: layers.relu_forward(x))
    assert acquired >= 1  # a sanitizer's build also takes its scratch there
    assert fresh == 0
    assert y.ctypes.data == address


def test_a_buffer_in_use_is_left_alone():
    x = np.ones((3, 1 << 19), np.float32)
    layers.relu_forward(x)
    kept = [layers.relu_forward(row)[0] for row in x]
    assert len({y.ctypes.data for y in kept}) == 3


@pytest.mark.parametrize("network", NAMED_SPECS)
def test_training_steps_take_no_new_buffers(network):
    spec, images = NAMED_SPECS[network], 4
    net = ConvNet(spec, (3, 32, 32), seed=0)
    X = np.random.default_rng(0).standard_normal((images, 3, 32, 32)).astype(np.float32)
    net.initialize(X)
    y = np.arange(images)
    for _ in range(3):
        net.loss(X, y)
    _, acquired, fresh = counted(lambda: net.loss(X, y))
    assert acquired > 0
    assert fresh == 0

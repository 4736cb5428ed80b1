"""What networks say that they hold, and that it does not grow with the sizes of images seen."""

import os

import cnnlib
import numpy as np
import pytest
from cnnlib.models import ConvNet, FullyConnectedNet
from memory_growth import growth_over_sizes

SIZES = 200
# Of the allocators, which the first sizes have not filled yet. A form for each size would be far more.
MOST_GROWTH = 6.0  # MB
SPEC = [{"conv": 8}, "batchnorm", "relu", "global_avg_pool"]


@pytest.fixture
def net():
    return ConvNet(SPEC, (3, 10, 12), 4, seed=0)


def test_arrays_are_parameters_and_statistics(net):
    own = [
        *net.params.values(),
        *(bn[name] for bn in net.bn_params for name in ("running_mean", "running_var")),
    ]
    used = net.memory()
    assert used.arrays == sum(array.nbytes for array in own)
    assert (used.mapped, used.packed, used.sizes, used.working) == (0, 0, (), 0)


def test_a_model_is_compiled_for_sizes_of_scores_and_of_training(net):
    net(np.zeros((2, 3, 10, 12)))
    net.loss(np.zeros((2, 3, 8, 9)), np.zeros(2, int))
    assert net.memory().sizes == ((3, 10, 12), (3, 8, 9))
    FullyConnectedNet([3], 4, 2, seed=0).memory()


def test_a_predictor_keeps_packed_weights_of_eight_sizes(net):
    predictor = cnnlib.prepare(net)
    assert predictor.memory().sizes == ((3, 10, 12),)  # which it was tried on
    one, packed = predictor.memory().packed, []
    for side in range(6, 18):
        predictor(np.zeros((1, 3, side, side), np.float32))
        packed.append(predictor.memory().packed)
    used = predictor.memory()
    assert used.sizes == tuple((3, side, side) for side in range(10, 18))
    assert one > 0
    assert packed == [one * min(count, 8) for count in range(2, 14)]
    assert used.working > 0
    text = str(used)
    assert "compiled for               3x10x10, 3x11x11" in text
    assert text.splitlines()[0].startswith("parameters and statistics  ")


def test_weights_of_a_file_are_mapped(net, tmp_path):
    cnnlib.prepare(net).save(tmp_path / "net.cnnlib")
    used = cnnlib.load(tmp_path / "net.cnnlib").memory()
    assert 0 < used.mapped <= used.arrays
    assert "mapped from a file" in str(used)


def test_buffers_are_those_of_the_process():
    net = FullyConnectedNet([3], 4, 2, seed=0)
    cnnlib.release_buffers()
    before = net.memory()
    assert before.buffers_kept == 0
    out = cnnlib.relu_forward(np.ones((1 << 10, 1 << 10), np.float32))[0]
    assert net.memory().buffers_used - before.buffers_used >= out.nbytes
    del out
    after = net.memory()
    assert after.buffers_used == before.buffers_used
    assert after.buffers_kept >= 4 << 20
    cnnlib.release_buffers()
    assert net.memory().buffers_kept == 0


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc here")
def test_memory_is_flat_over_sizes_of_images():
    """`python tests/memory_growth.py` takes 10,000 of them."""
    growth, predictor, net = growth_over_sizes(SIZES)
    assert growth < MOST_GROWTH
    assert len(predictor.memory().sizes) == 8
    assert len(net.memory().sizes) <= 16 + 16

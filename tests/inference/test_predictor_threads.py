"""One predictor and many threads: the kernels' own, and Python's."""

import numpy as np
import pytest
from cnnlib import _core
from cnnlib.data import Normalization
from cnnlib.graph import Node
from cnnlib.inference import load, prepare
from cnnlib.models import ConvNet
from helpers import in_threads, run_python
from small_graphs import GRAPH_NAMES, conv_node, net_of, random_params, small_graphs

pytestmark = [pytest.mark.sets, pytest.mark.smoke, pytest.mark.threads]


@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_every_operation_gives_the_same_bits_with_several_threads(name, isa, dtype, num_threads, rng):
    """Images apart on their threads, and one image that they share; each large enough for several."""
    nodes, params = next((nodes, params) for own, nodes, params in small_graphs(rng) if own == name)
    net = net_of(nodes, params, dtype=dtype)
    predictor = prepare(net)
    size = (7, 7) if net.graph().why_fixed() else (61, 90)
    x = rng.standard_normal((5, 4, *size)).astype(dtype)
    num_threads(1)
    want = predictor(x)
    for threads in (2, 3, 8):
        num_threads(threads)
        np.testing.assert_array_equal(predictor(x), want)
        np.testing.assert_array_equal(predictor(x[2:3]), want[2:3])


@pytest.mark.parametrize(
    ("method", "size"),
    [("pixel-lanes", 1), ("pixel-lanes", 3), ("filter-lanes", 1), ("filter-lanes", 3), ("winograd", 3)],
)
@pytest.mark.parametrize("plane", [(11, 3), (9, 17), (61, 90)], ids=str)
def test_a_convolution_that_adds_gives_an_image_the_same_bits(
    method, size, plane, isa, dtype, num_threads, rng
):
    """In any batch and with any number of threads: which vectors are stored whole depends on both."""
    weights = random_params(rng, w=(8, 8, size, size), b=8)
    nodes = [
        Node("sigmoid", ("input",), "s"),
        conv_node("input", "c", pad=size // 2, algorithm=method),
        Node("add", ("c", "s"), "sum"),
    ]
    predictor = prepare(net_of(nodes, weights, (8, *plane), dtype))
    assert "conv + add" in str(predictor.profile(np.zeros((1, 8, *plane), dtype)))
    x = rng.standard_normal((5, 8, *plane)).astype(dtype)
    num_threads(1)
    want = np.concatenate([predictor(image[None]) for image in x])
    for threads in (1, 2, 3, 8):
        num_threads(threads)
        np.testing.assert_array_equal(predictor(x), want)
        np.testing.assert_array_equal(predictor(x[2:3]), want[2:3])


@pytest.mark.parametrize("threads", [2, 4])
def test_many_calls_with_one_image(threads, num_threads, rng):
    """The team that waits for the loops of a call loses no task and does none twice."""
    predictor = prepare(ConvNet("mobile-small", (3, 32, 32), 10, seed=0))
    x = rng.standard_normal((1, 3, 32, 32)).astype(np.float32)
    num_threads(1)
    want = predictor(x)
    num_threads(threads)
    for _ in range(400):
        np.testing.assert_array_equal(predictor(x), want)


@pytest.mark.parametrize("policy", ["passive", "active"])
def test_a_wait_policy_changes_no_bit(policy, rng, tmp_path):
    """With OMP_WAIT_POLICY=passive no thread spins between the loops of a call."""
    x = rng.standard_normal((1, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    run_python(
        f"""
        import numpy as np
        from cnnlib.inference import prepare
        from cnnlib.models import ConvNet
        predictor = prepare(ConvNet("mobile-small", (3, 32, 32), 10, seed=0))
        np.save({str(tmp_path / "scores.npy")!r}, predictor(np.load({str(tmp_path / "x.npy")!r})))
        """,
        OMP_WAIT_POLICY=policy,
        OMP_NUM_THREADS="2",
        CNNLIB_ISA=_core.active_isa(),
    )
    want = prepare(ConvNet("mobile-small", (3, 32, 32), 10, seed=0))(x)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), want)


@pytest.fixture
def net():
    spec = [
        {"conv": 8},
        "batchnorm",
        "relu",
        {"max_pool": 2},
        {"conv": 8},
        "relu",
        "global_avg_pool",
        {"affine": 4},
    ]
    net = ConvNet(spec, (3, 12, 12), 4, seed=0)
    net.preprocess = Normalization(100, 50)
    return net


def test_images_of_more_sizes_than_are_kept(net, rng):
    """Each thread goes through the sizes in an order of its own: programs are made and dropped meanwhile."""
    sizes = [(h, w) for h in range(12, 24, 2) for w in (12, 15, 18, 21)]
    images = [rng.standard_normal((2, 3, *size)).astype(np.float32) for size in sizes]
    want = [prepare(net)(x) for x in images]
    predictor = prepare(net)

    def work(k):
        for i in np.random.default_rng(k).permutation(np.repeat(np.arange(len(sizes)), 3)):
            np.testing.assert_array_equal(predictor(images[i]), want[i])

    in_threads(8, work)


def test_a_predictor_from_a_file_does_everything_at_once(net, rng, tmp_path):
    """Its first use, the checks of its weights included, falls to all threads at the same time."""
    images = rng.integers(0, 256, (6, 3, 12, 12), np.uint8)
    first = prepare(net)
    first.save(tmp_path / "net")
    scores, labels, odds, text = (
        first(images),
        first.predict(images),
        first.predict_proba(images),
        first.summary(),
    )
    for _ in range(5):
        predictor = load(tmp_path / "net")

        def work(k, predictor=predictor):
            for turn in range(4):
                task = (k + turn) % 5
                if task == 0:
                    np.testing.assert_array_equal(predictor(images), scores)
                elif task == 1:
                    np.testing.assert_array_equal(predictor.predict(images), labels)
                elif task == 2:
                    np.testing.assert_array_equal(predictor.predict_proba(images), odds)
                elif task == 3:
                    assert predictor.summary() == text
                else:
                    predictor.save(tmp_path / f"net{k}")
                    np.testing.assert_array_equal(load(tmp_path / f"net{k}")(images), scores)

        in_threads(8, work)

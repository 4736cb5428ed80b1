"""Every layer, loss and update rule that PyTorch has, against it, on random configurations.

Both dtypes are compared with PyTorch's float64 on the widest instruction set, a third of the configurations
on each of the others. Dropout is left out: its masks come from another generator. Run as a script, this
prints the worst errors, of all sets.
"""

from collections import defaultdict

import numpy as np
import pytest
from cnnlib import _core

torch = pytest.importorskip("torch", reason="torch is not installed")

import torch_cases  # noqa: E402
import torch_chains  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")]

BATCH, BATCHES = 25, 2  # configurations of a test, tests of a layer
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
LAYERS = (
    *("conv", "conv_depthwise", "conv_winograd", "conv_transpose", "max_pool", "avg_pool", "global_avg_pool"),
    *("batchnorm", "spatial_batchnorm", "layernorm", "spatial_groupnorm", "affine", "relu", "leaky_relu"),
    *("gelu", "elu", "softmax", "adaptive_avg_pool", "adaptive_max_pool", "upsample"),
    "spatial_instancenorm",
    "spatial_layernorm",
)
SANDWICHES = (
    *("affine_relu", "affine_bn_relu"),
    *("conv_relu", "conv_bn_relu", "conv_relu_pool", "conv_bn_relu_pool"),
)
DRAWS = {
    **{name: getattr(torch_cases, f"draw_{name}") for name in LAYERS},
    **{
        name: torch_cases.draw_activation(name, function)
        for name, function in torch_cases.ACTIVATIONS.items()
    },
    **torch_cases.NUMBERED,
    **{name: torch_chains.draw_sandwich(name) for name in SANDWICHES},
    **{name: getattr(torch_chains, f"draw_{name}") for name in ("softmax_loss", "svm_loss")},
    **{name: torch_chains.draw_update(name) for name in torch_chains.OPTIMIZERS},
}

# Twice the worst seen and more. Where a norm's x is far from zero, PyTorch's own float64 is off by 1e-12.
TOLERANCE = defaultdict(lambda: {FLOAT32: 1e-5, FLOAT64: 1e-13})
TOLERANCE |= {name: {FLOAT32: 1e-5, FLOAT64: 2e-11} for name in LAYERS if name.endswith("norm")}
TOLERANCE |= {"hard_sigmoid": {FLOAT32: 1e-5, FLOAT64: 1e-7}}  # PyTorch's gradient is a sixth in float32


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch works faster on these small arrays when it does not share them out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def restored_isa():
    previous = _core.active_isa()
    yield
    _core.use_isa(previous)


def draw(name, index):
    """Configuration number `index`: the same in every run."""
    return DRAWS[name](np.random.default_rng([index, *name.encode()]))


def error(case, name, got, want):
    """The largest error relative to the case's scale; infinite where shapes, infinities or NaN differ."""
    if got[name] is None or want[name] is None:
        return 0.0 if got[name] is want[name] else np.inf
    value, wanted = np.asarray(got[name], np.float64), np.asarray(want[name])
    if value.shape != wanted.shape:
        return np.inf
    infinite = np.isinf(wanted)
    if not np.array_equal(value[infinite], wanted[infinite]):
        return np.inf
    difference = np.abs(value[~infinite] - wanted[~infinite]).max(initial=0.0)
    return np.inf if np.isnan(difference) else float(difference) / case.scale(name, want)


def compare(name, index, sets):
    """Yield (instruction set, dtype, name of a result, its error), all of one configuration."""
    case = draw(name, index)
    want = case.theirs(torch.float64)
    for isa in sets:
        _core.use_isa(isa)
        for dtype in (FLOAT32, FLOAT64):
            case.spoil(dtype)
            got = case.ours(dtype)
            assert got.keys() == want.keys(), f"{name} number {index}: {case.text}"
            for result, value in got.items():
                kept = not isinstance(value, np.ndarray) or value.dtype == dtype
                yield isa, dtype, result, error(case, result, got, want) if kept else np.inf


@pytest.mark.usefixtures("restored_isa")
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("name", DRAWS)
def test_equals_torch(name, batch, record_property, pytestconfig):
    tolerance, every = TOLERANCE[name], pytestconfig.getoption("every_set")
    worst, failures = defaultdict(float), []
    for index in range(batch * BATCH, (batch + 1) * BATCH):
        sets = [isa for k, isa in enumerate(_core.available_isas()) if every or k in (0, index % 3)]
        for isa, dtype, result, distance in compare(name, index, sets):
            worst[dtype] = max(worst[dtype], distance)
            if distance > tolerance[dtype]:
                text = draw(name, index).text
                failures.append(f"number {index}, {dtype} on {isa}: {result} off by {distance:.1e}: {text}")
    for dtype, distance in worst.items():
        record_property(f"worst {dtype} error", float(distance))
    assert not failures, f"{name}, {len(failures)} results:\n" + "\n".join(failures[:10])


def test_every_layer_is_compared():
    """Except losses (test_torch_losses.py), attention (test_attention.py) and dropout, which is random."""
    import cnnlib

    layers = {n.removesuffix("_forward") for n in cnnlib.layers.__all__ if not n.endswith("_backward")}
    elsewhere = {f"{name}_loss" for name in ("mse", "l1", "huber", "bce", "dice")} | {"cross_entropy"}
    assert layers - elsewhere - {"attention", "dropout"} <= DRAWS.keys()
    assert set(cnnlib.optim.__all__) <= DRAWS.keys()


def report(count):
    """Print a line for each layer: its worst errors, and those of PyTorch's own float32 beside them."""
    columns = [(who, kind) for who in ("float32", "float64", "PyTorch") for kind in ("result", "gradient")]
    print("Largest error against PyTorch's float64, relative to the largest value of a result")
    print(f"{'':22}{'configurations':>15}" + "".join(f"{w + ' ' + k:>18}" for w, k in columns))
    for name in DRAWS:
        worst = dict.fromkeys(columns, -1.0)
        for index in range(count):
            for _, dtype, result, distance in compare(name, index, _core.available_isas()):
                key = str(dtype), "gradient" if result.startswith("d") else "result"
                worst[key] = max(worst[key], distance)
            case = draw(name, index)
            got, want = case.theirs(torch.float32), case.theirs(torch.float64)
            for result in want:
                key = "PyTorch", "gradient" if result.startswith("d") else "result"
                worst[key] = max(worst[key], error(case, result, got, want))
        cells = "".join(f"{w:18.1e}" if w >= 0 else f"{'-':>18}" for w in worst.values())
        print(f"{name:22}{count:15}{cells}", flush=True)


if __name__ == "__main__":
    import sys
    import warnings

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    report(int(sys.argv[1]) if len(sys.argv) > 1 else BATCH * BATCHES)

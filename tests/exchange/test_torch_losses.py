"""The samples that PyTorch tests its own losses with, and NaN and infinities: values and gradients.

Run as a script, this prints how many samples were compared.
"""

from collections import Counter

import cnnlib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("expecttest", reason="expecttest, which torch.testing imports, is not installed")

from torch.nn import functional  # noqa: E402
from torch_opinfo import one_thread, operators_named  # noqa: E402

pytestmark = pytest.mark.peers

# Our loss -> PyTorch's, and how many of its samples there are for either dtype: means over all of x.
COMPARED = {
    "mse_loss": ("mse_loss", 4),
    "l1_loss": ("l1_loss", 4),
    "huber_loss": ("huber_loss", 3),
    "bce_loss": ("binary_cross_entropy_with_logits", 7),
    "cross_entropy": ("cross_entropy", 13),
}
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}  # relative to the largest value, or to 1


@pytest.fixture(scope="module")
def operators():
    return opinfo()


def opinfo():
    return operators_named({f"nn.functional.{name}" for name, _ in COMPARED.values()})


def our_loss(name, x, y, options):
    """Our loss as a function of arrays where it has all that a sample asks for, else None."""
    if options.pop("reduction", "mean") != "mean" or x.ndim < (2 if name == "cross_entropy" else 0):
        return None
    if name == "cross_entropy" and not y.is_floating_point():
        weights, ignore = options.pop("weight", None), options.pop("ignore_index", -100)
        weights = None if weights is None else weights.detach().numpy()
        ours = lambda x, y: cnnlib.softmax_loss(x, y, weights=weights, ignore=ignore)  # noqa: E731
    elif name == "cross_entropy":
        weights = options.pop("weight", None)
        weights = None if weights is None else weights.detach().numpy()
        ours = lambda x, y: cnnlib.cross_entropy(x, y, weights=weights)  # noqa: E731
    elif name == "bce_loss":
        pos_weight = options.pop("pos_weight", None)
        if pos_weight is not None and pos_weight.ndim and (x.ndim != 2 or pos_weight.shape != x.shape[1:]):
            return None
        pos_weight = None if pos_weight is None else pos_weight.detach().numpy()
        ours = lambda x, y: cnnlib.bce_loss(x, y, pos_weight=pos_weight)  # noqa: E731
    else:
        extra = {"delta": options.pop("delta")} if "delta" in options else {}
        ours = lambda x, y: getattr(cnnlib, name)(x, y, **extra)  # noqa: E731
    return None if options or (y.is_floating_point() and y.shape != x.shape) else ours


def compare(name, operator, dtype):
    """The number of samples whose values and gradients are the same; a difference raises."""
    count = 0
    for sample in operator.sample_inputs("cpu", dtype, requires_grad=True):
        if isinstance(sample.kwargs.get("weight"), torch.Tensor):  # of classes; ours are not below 0
            sample.kwargs["weight"] = sample.kwargs["weight"].detach().abs()
        x, (y, *rest), options = sample.input, sample.args, dict(sample.kwargs)
        ours = None if rest else our_loss(name, x, y, options)
        if ours is None:
            continue
        value, dx = ours(x.detach().numpy(), y.detach().numpy())
        want = operator.op(x, y, **sample.kwargs)
        (grad,) = torch.autograd.grad(want, x)
        if torch.isnan(want) and (x.numel() == 0 or value == 0):
            continue  # nothing to average
        assert value == pytest.approx(want.item(), rel=TOLERANCE[dtype], abs=TOLERANCE[dtype])
        largest = max(1.0, float(grad.abs().max()))
        np.testing.assert_allclose(dx, grad.numpy(), rtol=0, atol=TOLERANCE[dtype] * largest)
        count += 1
    return count


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", COMPARED)
def test_torchs_own_samples(name, dtype, operators):
    torchs, count = COMPARED[name]
    with one_thread():
        assert compare(name, operators[f"nn.functional.{torchs}"], dtype) >= count


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, 3.0]
KNOWN_TO_DIFFER = {
    ("l1_loss", "gradient", "nan"),
    ("bce_loss", "value", "-inf"),
    ("bce_loss", "gradient", "-inf"),
}


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("special", SPECIAL, ids=str)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "bce_loss"])
def test_special_values(name, special, target, dtype):
    """As PyTorch's, but for what docs/conventions.md names."""
    x, y = np.array([[special, 1.0, -2.0]], dtype), np.full((1, 3), target, dtype)
    tensor = torch.tensor(x, requires_grad=True)
    want = getattr(functional, COMPARED[name][0])(tensor, torch.tensor(y))
    want.backward()
    value, dx = getattr(cnnlib, name)(x, y)
    if (name, "value", str(special)) not in KNOWN_TO_DIFFER:
        np.testing.assert_allclose(value, want.item(), rtol=1e-6)
    if (name, "gradient", str(special)) not in KNOWN_TO_DIFFER:
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("special", SPECIAL, ids=str)
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5)], ids=str)
def test_special_scores(shape, special, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(shape).astype(dtype), rng.integers(0, 3, (2, *shape[2:]))
    x.flat[1] = special
    for targets, loss in ((y, cnnlib.softmax_loss), (rng.random(shape).astype(dtype), cnnlib.cross_entropy)):
        tensor = torch.tensor(x, requires_grad=True)
        want = functional.cross_entropy(tensor, torch.tensor(targets))
        want.backward()
        value, dx = loss(x, targets)
        np.testing.assert_allclose(value, want.item(), rtol=1e-5)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    counts = Counter()
    for name, (torchs, _) in COMPARED.items():
        for dtype in TOLERANCE:
            counts[name] += compare(name, opinfo()[f"nn.functional.{torchs}"], dtype)
    print(dict(counts))

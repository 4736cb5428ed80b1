"""The samples that PyTorch tests its own functions with, computed by cnnlib.torch: results and gradients.

Run as a script, this prints how many were compared.
"""

from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("expecttest", reason="expecttest, which torch.testing imports, is not installed")

import cnnlib.torch  # noqa: E402
from torch_opinfo import one_thread, operators_named  # noqa: E402

pytestmark = pytest.mark.peers

# Left out: pools that return indices, and batch norm without an axis of channels.
COMPARED = {"conv2d": 21, "max_pool2d": 640, "batch_norm": 10}  # samples of each dtype
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}  # relative to the largest value, or to 1


@pytest.fixture(scope="module")
def operators():
    return opinfo()


def opinfo():
    return operators_named({f"nn.functional.{name}" for name in COMPARED})


def samples(operator, dtype):
    """(positional arguments, keyword arguments) of each sample that cnnlib.torch has a counterpart of."""
    for sample in operator.sample_inputs("cpu", dtype, requires_grad=True):
        options = dict(sample.kwargs)
        if options.pop("return_indices", False) or (sample.input.dim() < 2 and "batch_norm" in operator.name):
            continue
        yield [sample.input, *sample.args], options


def results(function, arguments, options):
    """The output and the gradients of all that requires one, from fresh tensors."""
    fresh = [
        a.detach().clone().requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a
        for a in arguments
    ]
    options = {
        name: value.detach().clone().requires_grad_(value.requires_grad)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in options.items()
    }
    leaves = [t for t in (*fresh, *options.values()) if isinstance(t, torch.Tensor) and t.requires_grad]
    out = function(*fresh, **options)
    dout = torch.arange(out.numel(), dtype=out.dtype).cos().reshape(out.shape)
    grads = torch.autograd.grad(out, leaves, dout, allow_unused=True)
    return [out.detach(), *grads]


def compare(name, operator, dtype):
    """The number of samples whose results are the same; a difference raises."""
    count = 0
    for arguments, options in samples(operator, dtype):
        got = results(getattr(cnnlib.torch, name), arguments, options)
        want = results(operator.op, arguments, options)
        for g, w in zip(got, want, strict=True):
            largest = float(w.detach().abs().max()) if w.numel() else 0.0
            torch.testing.assert_close(g, w, rtol=0, atol=TOLERANCE[dtype] * max(largest, 1.0))
        count += 1
    return count


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", COMPARED)
def test_torchs_own_samples(name, operators):
    with one_thread():
        assert compare(name, operators[f"nn.functional.{name}"], torch.float64) >= COMPARED[name]


if __name__ == "__main__":
    counts = Counter()
    for name, operator in opinfo().items():
        name = name.removeprefix("nn.functional.")
        for dtype in TOLERANCE:
            counts[name] += compare(name, operator, dtype)
    print(dict(counts))

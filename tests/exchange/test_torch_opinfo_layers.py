"""The samples that PyTorch tests its own functions with, computed by cnnlib.layers: results and gradients.

Run as a script, this prints how many were compared.
"""

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("expecttest", reason="expecttest, which torch.testing imports, is not installed")

from cnnlib import layers  # noqa: E402
from helpers import as_tuple  # noqa: E402
from torch_opinfo import one_thread, operators_named  # noqa: E402

pytestmark = pytest.mark.peers

BOUND = 1e-13  # relative to the largest value, or to 1
SIXTH = 1e-7  # PyTorch's gradient of hardsigmoid and hardswish holds a sixth in float32


def _no_options(args, options):
    return () if not args and set(options) <= {"inplace"} else None


def _elu(args, options):
    return (options.get("alpha", 1.0),) if not args and set(options) <= {"alpha", "inplace"} else None


def _gelu(args, options):
    return (options.get("approximate", "none"),)


def _softmax(args, options):
    dim = args[0] if args else options.get("dim")
    return () if dim == 1 and options.get("dtype") is None else None


def _size(args, options):
    size = args[0] if args else options["output_size"]
    whole = isinstance(size, int) or None not in size
    return (size,) if whole and not options.get("return_indices", False) else None


def _convolution(args, options):
    if isinstance(options.get("padding"), str):
        return None  # 'same' and 'valid' are tested by themselves
    names = {"stride": "stride", "padding": "pad", "dilation": "dilation", "groups": "groups"}
    alone = {key: v[0] if isinstance(v, tuple) and len(v) == 1 else v for key, v in options.items()}
    return ({names[key]: value for key, value in alone.items()},)


# Our layer -> PyTorch's function, ranks of x, arrays that follow x, and the rest (None: no counterpart).
LAYERS = {
    "relu6": ("nn.functional.relu6", None, 0, _no_options),
    "sigmoid": ("sigmoid", None, 0, _no_options),
    "tanh": ("tanh", None, 0, _no_options),
    "silu": ("nn.functional.silu", None, 0, _no_options),
    "hard_sigmoid": ("nn.functional.hardsigmoid", None, 0, _no_options),
    "hard_swish": ("nn.functional.hardswish", None, 0, _no_options),
    "gelu": ("nn.functional.gelu", None, 0, _gelu),
    "elu": ("nn.functional.elu", None, 0, _elu),
    "softmax": ("softmax", (2, 4), 0, _softmax),
    "adaptive_avg_pool": ("nn.functional.adaptive_avg_pool2d", (4,), 0, _size),
    "adaptive_max_pool": ("nn.functional.adaptive_max_pool2d", (4,), 0, _size),
    "conv1d": ("nn.functional.conv1d", (3,), 2, _convolution),
    "conv3d": ("nn.functional.conv3d", (5,), 2, _convolution),
}


@pytest.fixture(scope="module")
def operators():
    return opinfo()


def opinfo():
    return operators_named({name for name, *_ in LAYERS.values()})


def compare(name, operator):
    """The number of samples whose float64 results are the same; a difference raises."""
    _, ranks, arrays, rest = LAYERS[name]
    bound, count = SIXTH if name.startswith("hard") else BOUND, 0
    for sample in operator.sample_inputs("cpu", torch.float64, requires_grad=False):
        tensors = [sample.input, *sample.args[:arrays]]
        options = {key: value for key, value in sample.kwargs.items() if not isinstance(value, torch.Tensor)}
        ours = rest(sample.args[arrays:], options)
        empty = sample.input.numel() == 0
        if ours is None or empty or (ranks is not None and sample.input.dim() not in ranks):
            continue
        given = [None if t is None else t.detach().numpy().copy() for t in tensors]
        given += [None] * (1 + arrays - len(given))
        leaves = [t.detach().clone().requires_grad_() for t in tensors if t is not None]
        want = operator.op(*leaves, *sample.args[arrays:], **options)
        want = want[0] if isinstance(want, tuple) else want  # without the places of the maxima
        dout = np.cos(np.arange(want.numel())).reshape(tuple(want.shape))
        grads = torch.autograd.grad(want, leaves, torch.from_numpy(dout))
        out, cache = getattr(layers, f"{name}_forward")(*given, *ours)
        back = as_tuple(getattr(layers, f"{name}_backward")(dout, cache))
        got = [out, *(grad for grad in back if grad is not None)]
        for g, w in zip(got, [want.detach(), *grads], strict=True):
            w = w.numpy()
            np.testing.assert_allclose(g, w, rtol=0, atol=bound * max(1.0, np.abs(w).max(initial=0)))
        count += 1
    return count


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_torchs_own_samples(name, operators):
    with one_thread():
        assert compare(name, operators[LAYERS[name][0]]) > 0


if __name__ == "__main__":
    found = opinfo()
    print(dict(Counter({name: compare(name, found[LAYERS[name][0]]) for name in LAYERS})))

"""
cnnlib.torch.from_module of random modules, run at two sizes of images: PyTorch's values, or refused in words.

The same modules in every run; with `HYPOTHESIS_EXAMPLES=2000` set it searches on.
With `-s` it prints what came of them.
"""

import re
from collections import Counter
from dataclasses import replace

import cnnlib
import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

import cnnlib.torch  # noqa: E402
from hypothesis import given, note  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from strategies import examples  # noqa: E402
from torch import nn  # noqa: E402
from torch_modules import modules  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
OUTCOMES, GRADIENTS = Counter(), Counter()


@pytest.fixture(scope="module", autouse=True)
def most_are_loaded():
    """Else the test would show little."""
    yield
    loaded = sum(count for outcome, count in OUTCOMES.items() if outcome.startswith("loaded"))
    print(f"\nof {sum(OUTCOMES.values())} modules {loaded} loaded")
    for outcome, count in OUTCOMES.most_common():
        print(f"{count:6} {outcome}")
    assert loaded >= 0.6 * sum(OUTCOMES.values())
    print(f"gradients: {dict(GRADIENTS)}")
    assert GRADIENTS["right"] >= GRADIENTS["refused by PyTorch"]


@pytest.mark.slow
@examples(60)
@given(modules(), st.tuples(st.integers(4, 20), st.integers(4, 20)), st.integers(0, 2**16))
def test_modules_are_computed_right_or_refused(drawn, other, seed):
    module, sample = drawn
    note(f"{module.extra_repr()}\nloaded at {sample}, run at {other} too")
    try:
        net = cnnlib.torch.from_module(module, sample)
    except ValueError as error:
        OUTCOMES[f"refused: {reason(error)}"] += 1
        return
    rng = np.random.default_rng(seed)
    assert check(module, net, rng, sample) == "right"
    OUTCOMES[f"loaded, another size {check(module, net, rng, (sample[0], *other))}"] += 1
    if [*module.parameters()]:
        GRADIENTS[check_gradients(module, net, rng, sample)] += 1


def check(module, net, rng, sample):
    """'right', or how the network, or PyTorch, refuses samples of this shape; anything else is a failure."""
    X = rng.standard_normal((3, *sample))
    try:
        with torch.no_grad():
            want = module(torch.tensor(X)).numpy()
    except (IndexError, RuntimeError, ValueError):
        want = None  # whatever a network does where PyTorch has no result
    for run in (net.loss, cnnlib.prepare(net)):
        try:
            got = run(X)
        except ValueError as error:
            return f"refused: {reason(error)}" if want is not None else "refused by PyTorch, too"
        if want is None:
            return "refused by PyTorch alone"
        assert got.shape == want.shape
        scale = np.abs(want).max()
        # A norm of pixels that differ by rounding alone enlarges it 1 / sqrt(eps) times, in PyTorch or here.
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8 * max(scale, 1))
    return "right"


def check_gradients(module, net, rng, sample):
    """Of parameters by their names, a mean squared error, and norms by the batch's statistics."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    graph = net.graph()
    graph.nodes = [
        replace(node, args=({"p": 0.0},)) if node.layer == "dropout" else node for node in graph.nodes
    ]
    net = net._with_graph(graph, {})
    X = rng.standard_normal((3, *sample))
    y, other = rng.standard_normal(net.loss(X).shape), X + 1e-12 * rng.standard_normal(X.shape)
    try:
        want, near = gradients(module, X, y), gradients(module, other, y)
    except (RuntimeError, ValueError):  # what changes in place is needed, norms of single values
        return "refused by PyTorch"
    _, grads = net.loss(X, y, "mse")
    assert want.keys() & net.params.keys() <= grads.keys()
    for name in want.keys() & grads.keys():
        got = grads[name].T if grads[name].ndim == 2 else grads[name].reshape(want[name].shape)
        scale = np.abs(want[name]).max()
        lost = np.abs(near[name] - want[name]).max()  # a norm of next to nothing enlarges rounding
        np.testing.assert_allclose(got, want[name], rtol=1e-6, atol=1e-8 * max(scale, 1) + 10 * lost)
    return "right"


def gradients(module, X, y):
    """Those of the parameters that take part, in training mode, but for norms with nothing to train."""
    module.train().zero_grad()
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) and layer.weight is None:
            layer.eval()
    try:
        nn.functional.mse_loss(module(torch.tensor(X)), torch.tensor(y)).backward()
        return {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    finally:
        module.eval()


def reason(error):
    """A refusal's words without what differs from one module to the next; they must name what is refused."""
    text = str(error)
    named = re.match(r"(from_module: \w+( of \w+ '[^']*')?(: |,)|.*(fixed by|node '))", text)
    assert named, f"nothing is named: {text}"
    text = re.sub(r"'layers\.[\d.]*'", "'...'", text)
    text = re.sub(r"node '\w+'", "node '...'", text)
    return re.sub(
        r"\w+_\d+\b", "...", re.sub(r"-?\d+(\.\d+)?", "#", re.sub(r"\([^()]*\)|\[[^][]*\]", "(...)", text))
    )

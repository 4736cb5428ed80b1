"""The programs of examples/ compute what they say."""

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from cnnlib.data import load_digits
from cnnlib.gradient_check import eval_numerical_gradient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)


def example(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_autograd_differentiates_a_network(rng):
    autograd = pytest.importorskip("autograd", reason="autograd is not installed")
    program = example("autograd_conv")
    X, y = rng.standard_normal((3, 1, 8, 8)), np.array([1, 0, 2])
    params = {"W1": rng.standard_normal((2, 1, 3, 3)), "b1": rng.standard_normal(2)}
    params |= {"W2": rng.standard_normal((32, 3)), "b2": np.zeros(3)}
    grads = autograd.grad(program.loss)(params, X, y)
    for name, value in params.items():
        wanted = eval_numerical_gradient(lambda _: program.loss(params, X, y), value)
        np.testing.assert_allclose(grads[name], wanted, rtol=1e-6, atol=1e-8, err_msg=name)
    dX = autograd.grad(lambda X: program.loss(params, X, y))(X)
    wanted = eval_numerical_gradient(lambda X: program.loss(params, X, y), X)
    np.testing.assert_allclose(dX, wanted, rtol=1e-6, atol=1e-8)


def test_autograd_trains_a_network():
    pytest.importorskip("autograd", reason="autograd is not installed")
    program, data = example("autograd_conv"), load_digits()
    params = program.train(data["X_train"], data["y_train"])
    right = program.scores(params, data["X_test"]).argmax(axis=1) == data["y_test"]
    assert right.mean() > 0.9


BEYOND_CLASSES = {  # the smallest run that tells, and what it has to come to
    "denoise_photos": ({"n": 300, "epochs": 3}, lambda scores: scores["network"] > scores["noisy"] + 3),
    "segment_shapes": ({"n": 60, "epochs": 4}, lambda scores: scores["network, any shape"] > 0.6),
    "upscale_photos": ({"n": 60, "epochs": 2}, lambda scores: min(scores.values()) > 25),
    "detect_shapes": ({"n": 400, "epochs": 6}, lambda scores: min(scores.values()) > 0.5),
    "count_discs": ({"n": 800, "epochs": 4}, lambda scores: scores["network"] < 2),
    "anomalies_in_a_signal": ({"length": 80_000, "epochs": 6}, lambda scores: scores["autoencoder"] > 0.75),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BEYOND_CLASSES)
def test_what_is_beyond_classes(name, tmp_path, monkeypatch, num_threads):
    for package in ("matplotlib", "scipy", "sklearn", "skimage"):
        pytest.importorskip(package, reason=f"{name} needs it")
    monkeypatch.syspath_prepend(EXAMPLES)
    num_threads(1)
    options, holds = BEYOND_CLASSES[name]
    scores = example(name).main(tmp_path / "picture.png", **options)
    assert holds(scores), scores
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_jax_equals_its_own_convolution():
    """In a process of its own, for its threads; not among the tests' packages, since jaxlib takes 350 MB."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    program = textwrap.dedent(
        """
        import jax, jax.numpy as jnp, numpy as np
        jax.config.update("jax_enable_x64", True)
        from jax_conv import conv2d

        def theirs(x, w, b, stride, pad):
            pads = [(pad, pad), (pad, pad)]
            out = jax.lax.conv_general_dilated(x, w, (stride, stride), pads, precision="highest")
            return out + b[:, None, None]

        rng = np.random.default_rng(0)
        x, w, b = (jnp.asarray(rng.standard_normal(s)) for s in ((4, 3, 30, 29), (5, 3, 3, 2), (5,)))
        def value_and_grads(conv, stride, pad):
            loss = lambda *arrays: jnp.sum(jnp.sin(conv(*arrays, stride, pad)))
            return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(x, w, b)

        for stride, pad in ((1, 0), (2, 1)):
            got, got_grads = value_and_grads(conv2d, stride, pad)
            want, want_grads = value_and_grads(theirs, stride, pad)
            np.testing.assert_allclose(got, want, rtol=1e-10)
            for g, v in zip(got_grads, want_grads, strict=True):
                np.testing.assert_allclose(g, v, rtol=1e-9, atol=1e-11)
        several = jnp.stack([w, 2 * w])
        got = jax.vmap(lambda w: conv2d(x, w, b))(several)
        np.testing.assert_allclose(got[1], theirs(x, 2 * w, b, 1, 0), rtol=1e-9, atol=1e-11)
        print("equal")
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=EXAMPLES, capture_output=True, text=True, timeout=300
    )
    assert result.stdout == "equal\n", result.stderr

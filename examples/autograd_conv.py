"""cnnlib's layers as functions of HIPS autograd, which differentiates NumPy programs.

A layer becomes a primitive in a few lines: its forward pass, and for each array argument the function that
turns the gradient of the output into that of the argument. `needs` computes no gradient that nobody asked
for. The backward passes are not primitives themselves, so there are first derivatives only.

    pip install autograd
    python examples/autograd_conv.py
"""

import autograd.numpy as anp
import cnnlib
import numpy as np
from autograd import grad
from autograd.extend import defvjp, primitive


@primitive
def conv(x, w, b, conv_param):
    """Images (N, C, H, W) convolved with filters (F, C, KH, KW), and biases (F,) added."""
    return cnnlib.conv_forward(x, w, b, conv_param)[0]


def _conv_vjp(name, position):
    def vjp(out, x, w, b, conv_param):
        cache = (x, w, b, conv_param)
        return lambda dout: cnnlib.conv_backward(dout, cache, needs=(name,))[position]

    return vjp


defvjp(conv, _conv_vjp("dx", 0), _conv_vjp("dw", 1), _conv_vjp("db", 2), argnums=(0, 1, 2))


@primitive
def max_pool(x, pool_param):
    """The maximum of each window."""
    return cnnlib.max_pool_forward(x, pool_param)[0]


defvjp(
    max_pool,
    lambda out, x, pool_param: lambda dout: cnnlib.max_pool_backward(dout, (x, pool_param)),
    argnums=(0,),
)

CONV, POOL = {"stride": 1, "pad": "same"}, {"size": 2}


def scores(params, X):
    """Of images X (N, 1, 8, 8): conv - ReLU - 2x2 max pool - affine."""
    hidden = max_pool(anp.maximum(conv(X, params["W1"], params["b1"], CONV), 0), POOL)
    return anp.dot(hidden.reshape(len(X), -1), params["W2"]) + params["b2"]


def loss(params, X, y):
    """The mean softmax loss, with a penalty that is written down rather than derived."""
    s = scores(params, X)
    s = s - anp.max(s, axis=1, keepdims=True)
    picked = s[np.arange(len(y)), y] - anp.log(anp.sum(anp.exp(s), axis=1))
    return -anp.mean(picked) + 1e-3 * anp.sum(anp.abs(params["W1"]))


def train(X, y, steps=150, learning_rate=0.3, seed=0):
    """Gradient descent on minibatches of 100; returns the parameters."""
    rng = np.random.default_rng(seed)
    params = {"W1": 0.3 * rng.standard_normal((8, 1, 3, 3)), "b1": np.zeros(8)}
    params |= {"W2": 0.05 * rng.standard_normal((8 * 16, 10)), "b2": np.zeros(10)}
    gradient = grad(loss)
    for _ in range(steps):
        batch = rng.integers(len(X), size=100)
        grads = gradient(params, X[batch], y[batch])
        params = {name: value - learning_rate * grads[name] for name, value in params.items()}
    return params


if __name__ == "__main__":
    from cnnlib.data import load_digits

    data = load_digits()
    params = train(data["X_train"], data["y_train"])
    right = scores(params, data["X_test"]).argmax(axis=1) == data["y_test"]
    print(f"test accuracy: {right.mean():.3f}")

"""cnnlib's convolution as a function of JAX, with its gradient, under jit, grad and vmap.

`jax.pure_callback` leaves a compiled program for a Python function on arrays, and `jax.custom_vjp` says what
the gradient is. Only NumPy and cnnlib may be called inside of a callback: JAX's own functions would wait for
the program that waits for them. Gradients of gradients are not defined.

    pip install jax
    python examples/jax_conv.py
"""

from functools import partial

import cnnlib
import jax
import jax.numpy as jnp
import numpy as np


def _call(function, *shaped_like):
    """`function` on NumPy arrays as part of a JAX program; its results have these shapes and dtypes."""
    results = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in shaped_like]

    def host(*arrays):
        return function(*(np.asarray(a) for a in arrays))

    return lambda *arrays: jax.pure_callback(host, results, *arrays, vmap_method="sequential")


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def conv2d(x, w, b, stride=1, pad=0):
    """Images (N, C, H, W) convolved with filters (F, C, KH, KW), and biases (F,) added."""
    param = {"stride": stride, "pad": pad}
    size = [(n + 2 * pad - k) // stride + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True)]
    out = jax.ShapeDtypeStruct((x.shape[0], w.shape[0], *size), x.dtype)
    return _call(lambda x, w, b: [cnnlib.conv_forward(x, w, b, param)[0]], out)(x, w, b)[0]


def _forward(x, w, b, stride, pad):
    return conv2d(x, w, b, stride, pad), (x, w, b)


def _backward(stride, pad, saved, dout):
    param = {"stride": stride, "pad": pad}
    gradients = _call(lambda dout, *arrays: list(cnnlib.conv_backward(dout, (*arrays, param))), *saved)
    return tuple(gradients(dout, *saved))


conv2d.defvjp(_forward, _backward)

if __name__ == "__main__":
    x, w, b = jnp.ones((8, 3, 32, 32)), jnp.full((16, 3, 3, 3), 0.1), jnp.zeros(16)

    @jax.jit
    def loss(w, b):
        return jnp.mean(jax.nn.relu(conv2d(x, w, b, 1, 1)) ** 2)

    dw, db = jax.grad(loss, argnums=(0, 1))(w, b)
    print(f"loss {loss(w, b):.4f}, gradient of the biases {db[0]:.4f}")

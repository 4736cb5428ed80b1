"""A cnnlib.models.ConvNet computed by PyTorch, as a model that cnnlib's Solver trains.

So the minibatches, their augmentation, the schedule and the updates are the same on both sides, and what is
compared is the network: forward, loss and backward in eager PyTorch with autograd.
"""

from __future__ import annotations

import numpy as np


class TorchNet:
    """The network of a ConvNet without residual blocks, from the same weights.

    Attributes
    ----------
    params, bn_params, frozen, label_smoothing
        As the ConvNet's. The arrays are NumPy's; PyTorch's tensors are views of them.
    """

    def __init__(self, torch, net):
        self.torch = torch
        self.spec = [(entry, None, {}) if isinstance(entry, str) else _split(entry) for entry in net.spec]
        self.spec.append(("affine", net.num_classes, {}))
        self.params = {name: value.copy() for name, value in net.params.items()}
        self.bn_params = [dict(bn_param) for bn_param in net.bn_params]
        self.frozen, self.label_smoothing = net.frozen, net.label_smoothing

    def loss(self, X, y=None):
        """Scores, or with labels the loss and the gradients, as ConvNet gives them."""
        torch = self.torch
        tensors = {name: torch.from_numpy(value) for name, value in self.params.items()}
        trained = {name: value for name, value in tensors.items() if name not in self.frozen}
        if y is None:
            with torch.inference_mode():
                return self._scores(X, tensors, False).numpy()
        for value in trained.values():
            value.requires_grad_(True)
        scores = self._scores(X, tensors, True)
        loss = torch.nn.functional.cross_entropy(
            scores, torch.from_numpy(y), label_smoothing=self.label_smoothing
        )
        grads = torch.autograd.grad(loss, list(trained.values()))
        return loss.item(), {name: grad.numpy() for name, grad in zip(trained, grads)}

    def _scores(self, X, tensors, train):
        F, x = self.torch.nn.functional, self.torch.from_numpy(np.ascontiguousarray(X))
        weights = norms = 0
        for kind, value, options in self.spec:
            if kind == "conv":
                weights += 1
                pad = options.get("pad", "same")
                x = F.conv2d(x, tensors[f"W{weights}"], tensors.get(f"b{weights}"), 1, pad)
            elif kind == "affine":
                weights += 1
                x = F.linear(x.flatten(1), tensors[f"W{weights}"].T, tensors.get(f"b{weights}"))
            elif kind == "batchnorm":
                x = self._batchnorm(x, tensors, norms, train)
                norms += 1
            elif kind in ("relu", "max_pool", "global_max_pool", "scale"):
                x = _SIMPLE[kind](F, x, value)
            else:
                raise ValueError(f"no PyTorch twin for the stage {kind!r}")
        return x

    def _batchnorm(self, x, tensors, index, train):
        param = self.bn_params[index]
        for name in ("running_mean", "running_var"):
            if name not in param:
                param[name] = np.zeros(x.shape[1], self.params["W1"].dtype)
        return self.torch.nn.functional.batch_norm(
            x,
            self.torch.from_numpy(param["running_mean"]),
            self.torch.from_numpy(param["running_var"]),
            tensors[f"gamma{index + 1}"],
            tensors[f"beta{index + 1}"],
            train,
            1 - param.get("momentum", 0.9),
            param.get("eps", 1e-5),
        )


_SIMPLE = {
    "relu": lambda F, x, value: F.relu(x),
    "max_pool": lambda F, x, size: F.max_pool2d(x, size),
    "global_max_pool": lambda F, x, value: F.max_pool2d(x, x.shape[2:]),
    "scale": lambda F, x, factor: x * factor,
}


def _split(entry):
    options = dict(entry)
    kind = next(iter(options))
    return kind, options.pop(kind), options

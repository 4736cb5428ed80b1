"""`batch_norm`: statistics of the batch or running ones; its second derivatives are PyTorch's."""

from __future__ import annotations

import torch

from cnnlib import _core
from cnnlib.torch.tensors import as_array, check, from_array, operator, prepare, torch_threads


def batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """
    Normalise each channel, as ``torch.nn.functional.batch_norm`` does.

    PyTorch's conventions hold: `momentum` is the weight of the batch, and the running variance is moved by
    the unbiased one (:func:`cnnlib.spatial_batchnorm_forward` has the complement and the biased one).

    Parameters
    ----------
    x : Tensor, (N, C, ...)
        Features or images. Any strides; what is not contiguous is copied.
    running_mean, running_var : Tensor, (C,), or None
        Moved in place if `training`; taken as they are otherwise, and required then.
    weight, bias : Tensor, (C,), or None
        Scale and shift; 1 and 0 if None.
    training : bool
        Whether to normalise by the batch's statistics.
    momentum : float, in [0, 1]
    eps : float

    Returns
    -------
    Tensor of x's shape

    Raises
    ------
    ValueError
        Shapes that do not fit, one value per channel in training, no running statistics without training,
        tensors that are not on the CPU.
    TypeError
        Tensors of an unsupported type.

    Examples
    --------
    >>> mean, var = torch.zeros(1), torch.ones(1)
    >>> batch_norm(torch.tensor([[1.0], [3.0]]), mean, var, training=True, eps=0.0)
    tensor([[-1.],
            [ 1.]])
    >>> mean, var
    (tensor([0.2000]), tensor([1.1000]))
    """
    (x, weight, bias), dtype = prepare("batch_norm", ("x", "weight", "bias"), x, weight, bias)
    if x.dim() < 2:
        raise ValueError(f"batch_norm: x must have the shape (N, C, ...), got {tuple(x.shape)}")
    C = x.shape[1]
    given = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, tensor in given.items():
        if tensor is not None:
            check("batch_norm", name, tensor)
            if tuple(tensor.shape) != (C,):
                raise ValueError(f"batch_norm: {name} must have shape ({C},), got {tuple(tensor.shape)}")
    count = x.numel() // C if C else 0
    if training and count == 1:
        raise ValueError(
            f"batch_norm: expected more than 1 value per channel when training, got shape {tuple(x.shape)}"
        )
    weight = x.new_ones(C) if weight is None else weight
    bias = x.new_zeros(C) if bias is None else bias
    images = x if x.dim() in (2, 4) else x.flatten(2).unsqueeze(-1)
    if training and count > 0:
        out, mean, var, _ = _train(images, weight, bias, eps)
        with torch.no_grad():
            _move(running_mean, mean, momentum)
            _move(running_var, var * (count / (count - 1)), momentum)
    else:
        if training:  # nothing came: nothing is moved, and no value depends on these
            running_mean, running_var = weight.new_zeros(C), weight.new_ones(C)
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: running_mean and running_var are required without training")
        mean, var = running_mean.detach().double(), running_var.detach().double()
        out = _normalize(images, weight, bias, mean, torch.rsqrt(var + eps))
    return out.reshape(x.shape).to(dtype)


def _move(running, statistic, momentum):
    if running is not None:
        running.copy_(running.double() * (1 - momentum) + statistic * momentum)


@operator("batch_norm_train", "Tensor x, Tensor gamma, Tensor beta, float eps", 4)
def _train(x, gamma, beta, eps):
    """The result, and the batch's mean, biased variance and inverse deviation in float64."""
    with torch_threads():
        results = _core.batchnorm_train(
            "batch_norm", as_array(x), x.dim(), as_array(gamma), as_array(beta), eps
        )
    return tuple(map(from_array, results))


@operator("batch_norm_normalize", "Tensor x, Tensor gamma, Tensor beta, Tensor mean, Tensor inv_std")
def _normalize(x, gamma, beta, mean, inv_std):
    images, centre, inverse, scale, shift = (as_array(tensor) for tensor in (x, mean, inv_std, gamma, beta))
    with torch_threads():
        return from_array(
            _core.batchnorm_normalize("batch_norm", images, x.dim(), centre, inverse, scale, shift)
        )


_ARGUMENTS = "Tensor dout, Tensor x, Tensor gamma, Tensor mean, Tensor inv_std, bool from_batch"


@operator("batch_norm_backward", _ARGUMENTS, 3)
def _backward(dout, x, gamma, mean, inv_std, from_batch):
    """dx, dgamma, dbeta."""
    tensors = dout.contiguous(), x, gamma, mean, inv_std
    dy, images, scale, centre, inverse = (as_array(tensor) for tensor in tensors)
    with torch_threads():
        grads = _core.batchnorm_backward(
            "batch_norm", dy, images, x.dim(), centre, inverse, scale, None, from_batch
        )
    return tuple(map(from_array, grads))


@_train.register_fake
def _(x, gamma, beta, eps):
    mean, var, inv_std = (x.new_empty(x.shape[1], dtype=torch.float64) for _ in range(3))
    return torch.empty_like(x), mean, var, inv_std


@_normalize.register_fake
def _(x, gamma, beta, mean, inv_std):
    return torch.empty_like(x)


@_backward.register_fake
def _(dout, x, gamma, mean, inv_std, from_batch):
    return torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)


def _keep_train(ctx, inputs, output):
    x, gamma, _, _ = inputs
    _, mean, var, inv_std = output
    ctx.mark_non_differentiable(mean, var, inv_std)
    ctx.save_for_backward(x, gamma, mean, inv_std)


def _train_gradients(ctx, dout, *_):
    return *_backward(dout, *ctx.saved_tensors, True), None


def _keep_normalize(ctx, inputs, output):
    x, gamma, _, mean, inv_std = inputs
    ctx.save_for_backward(x, gamma, mean, inv_std)


def _normalize_gradients(ctx, dout):
    return *_backward(dout, *ctx.saved_tensors, False), None, None


def _keep_backward(ctx, inputs, output):
    *tensors, ctx.from_batch = inputs
    ctx.save_for_backward(*tensors)


def _backward_gradients(ctx, *grads):
    """The derivatives of `_backward` itself, of a formula that PyTorch differentiates, in float64."""
    dout, x, gamma, mean, inv_std = ctx.saved_tensors
    axes = [axis for axis in range(x.dim()) if axis != 1]

    def column(statistic):
        return statistic.reshape(-1, *[1] * (x.dim() - 2))

    def formula(dout, x, gamma):
        if ctx.from_batch:
            centred = x - x.mean(axes, keepdim=True)
            # The saved deviation holds eps; the variance varies with x around the value that it was saved at.
            var = centred.square().mean(axes, keepdim=True)
            scale = (var - var.detach() + column(inv_std) ** -2) ** -0.5
        else:
            centred, scale = x - column(mean), column(inv_std)
        xhat = centred * scale
        dx = dout
        if ctx.from_batch:
            dx = dout - dout.mean(axes, keepdim=True) - xhat * (dout * xhat).mean(axes, keepdim=True)
        return column(gamma) * scale * dx, (dout * xhat).sum(axes), dout.sum(axes)

    _, pull = torch.func.vjp(formula, dout.double(), x.double(), gamma.double())
    results = pull(tuple(grad.double() for grad in grads))
    return *(result.to(x.dtype) for result in results), None, None, None


_train.register_autograd(_train_gradients, setup_context=_keep_train)
_normalize.register_autograd(_normalize_gradients, setup_context=_keep_normalize)
_backward.register_autograd(_backward_gradients, setup_context=_keep_backward)

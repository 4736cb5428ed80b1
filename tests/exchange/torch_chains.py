"""Random configurations of sandwich layers, losses and update rules, for comparison with PyTorch."""

from __future__ import annotations

import cnnlib
import numpy as np
import torch
from helpers import random_arrays
from torch.nn import functional
from torch_cases import (
    Case,
    batch_norm,
    batch_rest,
    channels,
    conv2d,
    draw_affine_arrays,
    draw_batch_param,
    largest,
    layer_case,
    linear,
    pair,
    spelled,
)

# A draw is repeated until no value is nearer than this to where ReLU or a maximum changes sides: rounding
# to float32 could otherwise decide it.
MARGIN = 1e-4


def pool_gap(x, kernel, stride, pad):
    """The least distance between the two largest values of a window, where the largest is positive."""
    padded = functional.pad(x, (pad[1], pad[1], pad[0], pad[0]), value=-torch.inf)
    windows = padded.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1]).flatten(-2)
    first, second = windows.topk(2).values.unbind(-1)
    return torch.where(first > 0, first - second, torch.inf).min().item()


def sandwich(rng, name):
    """One draw of a sandwich layer: the case, and its margin."""
    stages = name.split("_")
    bn_param = pool_param = None
    rest = []
    if stages[0] == "affine":
        arrays, first = draw_affine_arrays(rng, least=3), linear
    else:
        arrays, first, conv_param = draw_conv_start(rng)
        rest.append(lambda dtype: (dict(conv_param),))
    if "bn" in stages:
        F = len(arrays["b"])
        arrays |= dict(zip(("gamma", "beta"), random_arrays(rng, (F,), (F,))))
        bn_param = draw_batch_param(rng, F)
        rest.append(batch_rest(bn_param))
    if "pool" in stages:
        window, step, border = pair(rng, 2, 3), pair(rng, 1, 3), pair(rng, 0, 1)
        pool_param = {"pool_height": window[0], "pool_width": window[1], "stride": step, "pad": border}
        rest.append(lambda dtype: (dict(pool_param),))
    margins, spreads = [], []

    def function(x, w, b, gamma=None, beta=None):
        out, running = first(x, w, b), {}
        if bn_param:
            spreads.append(out.detach().transpose(0, 1).flatten(1).var(1, correction=0).min().item())
            out, running = batch_norm(out, gamma, beta, bn_param)
        margins.append(out.detach().abs().min().item())
        out = functional.relu(out)
        if pool_param:
            margins.append(pool_gap(out.detach(), window, step, border))
            out = functional.max_pool2d(out, window, step, border)
        return out, running

    function(*map(torch.tensor, arrays.values()))
    floors = dict.fromkeys(("out", "dx", "dw", "db", "dgamma", "dbeta", "running_mean"), 1.0)
    if bn_param:
        # As for the norms alone: what batch normalisation sends back is a remainder, of sums this large.
        steepest = largest(arrays["gamma"]) / np.sqrt(spreads[0] + bn_param["eps"])
        floors |= {"dx": steepest, "dw": steepest, "db": steepest}
    case = layer_case(name, arrays, function, lambda dtype: sum((r(dtype) for r in rest), ()), floors)
    return case, min(margins)


def draw_conv_start(rng):
    """x, w and b of a convolution, PyTorch's way of it, and conv_param."""
    C, F = channels(rng), channels(rng)
    kernel, stride, pad = pair(rng, 1, 3), pair(rng, 1, 2), pair(rng, 0, 2)
    size = tuple(k + int(n) for k, n in zip(kernel, rng.integers(4, 10, 2)))
    shapes = (int(rng.integers(1, 4)), C, *size), (F, C, *kernel), (F,)
    sides = tuple((p, p) for p in pad)
    return (
        dict(zip("xwb", random_arrays(rng, *shapes))),
        lambda x, w, b: conv2d(x, w, b, stride, sides, 1, 1),
        {"stride": spelled(rng, stride), "pad": spelled(rng, pad)},
    )


def draw_sandwich(name):
    def draw(rng):
        while True:
            case, margin = sandwich(rng, name)
            if margin > MARGIN:
                return case

    return draw


def loss_case(rng, loss, function, spread):
    N, C = int(rng.integers(1, rng.choice([4, 60]))), int(rng.integers(2, rng.choice([4, 100])))
    x, y = random_arrays(rng, (N, C))[0], rng.integers(0, C, N)
    x = np.float32(x * rng.choice(spread)).astype(float)
    if rng.random() < 0.3:
        x = np.round(x)  # scores exactly on the margin

    def ours(dtype):
        value, dx = loss(x.astype(dtype), y)
        return {"loss": value, "dx": dx}

    def theirs(dtype):
        scores = torch.tensor(x, dtype=dtype, requires_grad=True)
        value = function(scores, torch.tensor(y))
        value.backward()
        return {"loss": value.item(), "dx": scores.grad.numpy()}

    return Case(f"x{[N, C]} up to {np.abs(x).max():.3g}", ours, theirs, {"loss": 0.01, "dx": 1 / N})


def draw_softmax_loss(rng):
    return loss_case(rng, cnnlib.softmax_loss, functional.cross_entropy, [0.1, 1.0, 30.0])


def draw_svm_loss(rng):
    """PyTorch divides the sum over the classes by their number."""
    return loss_case(
        rng, cnnlib.svm_loss, lambda x, y: functional.multi_margin_loss(x, y) * x.shape[1], [0.1, 1.0, 30.0]
    )


# Each rule's optimizer, the state that both keep, and the names of the hyper-parameters on both sides.
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}, {}),
    "sgd_momentum": (torch.optim.SGD, {"velocity": "momentum_buffer"}, {"momentum": "momentum"}),
    "sgd_nesterov_momentum": (torch.optim.SGD, {"velocity": "momentum_buffer"}, {"momentum": "momentum"}),
    "rmsprop": (torch.optim.RMSprop, {"a": "square_avg"}, {"decay_rate": "alpha", "epsilon": "eps"}),
    "adam": (torch.optim.Adam, {"v": "exp_avg", "a": "exp_avg_sq"}, {"epsilon": "eps"}),
    "adamw": (
        torch.optim.AdamW,
        {"v": "exp_avg", "a": "exp_avg_sq"},
        {"epsilon": "eps", "weight_decay": "weight_decay"},
    ),
}
CHOICES = {
    "momentum": [0.1, 0.5, 0.9, 0.99],
    "decay_rate": [0.0, 0.5, 0.9, 0.99],
    "epsilon": [1e-8, 1e-3],
    "weight_decay": [0.0, 1e-2, 0.3],
}


def draw_update(rule):
    optimizer, state, names = OPTIMIZERS[rule]
    adaptive = rule.startswith("adam")

    def draw(rng):
        shape = tuple(int(n) for n in rng.integers(1, 20, rng.integers(1, 4)))
        steps = int(rng.integers(1, 9))
        w, *gradients = random_arrays(rng, *[shape] * (steps + 1))
        gradients = [np.round(dw) if rng.random() < 0.3 else dw for dw in gradients]  # some zeros
        config = {name: float(rng.choice(CHOICES[name])) for name in names}
        betas = (float(rng.choice([0.0, 0.5, 0.9])), float(rng.choice([0.5, 0.99, 0.999])))
        # Ours keeps the rate inside the velocity, PyTorch outside; they agree while it stays.
        rates = rng.choice([1.0, 0.1, 0.01], 1 if "momentum" in names else steps)
        rates = [float(r) for r in np.broadcast_to(rates, steps)]

        def ours(dtype):
            now, settings = w.astype(dtype), dict(config)
            if adaptive:
                settings |= {"beta1": betas[0], "beta2": betas[1]}
            for dw, rate in zip(gradients, rates):
                settings["learning_rate"] = rate
                now, settings = getattr(cnnlib.optim, rule)(now, dw.astype(dtype), settings)
            return {"w": now, **{name: settings[name] for name in state}}

        def theirs(dtype):
            options = {names[name]: value for name, value in config.items()}
            options |= {"nesterov": True} if "nesterov" in rule else {}
            options |= {"betas": betas} if adaptive else {}
            now = torch.tensor(w, dtype=dtype, requires_grad=True)
            torch_rule = optimizer([now], lr=rates[0], foreach=False, **options)
            for dw, rate in zip(gradients, rates):
                torch_rule.param_groups[0]["lr"] = rate
                now.grad = torch.tensor(dw, dtype=dtype)
                torch_rule.step()
            kept = {name: torch_rule.state[now][key].numpy() for name, key in state.items()}
            if "velocity" in kept:
                kept["velocity"] = -rates[0] * kept["velocity"]
            return {"w": now.detach().numpy(), **kept}

        text = f"w{list(shape)} {steps} steps {config} {betas if adaptive else ''} rates {rates}"
        return Case(text, ours, theirs, {"w": 1.0})

    return draw

"""A training step in cnnlib and in PyTorch, from the same weights on the same minibatch."""

from __future__ import annotations

import functools
import json
import resource
import tempfile
from pathlib import Path

from cnnlib import _core
from cnnlib.models.summary import node_stages

from support.inference.networks import even_padding
from support.training import own

_COUNTED_STEPS = 5


class Pair:
    """Both sides of one network.

    Parameters
    ----------
    torch : module
    name : str
        Of own.NETWORKS or own.OF_PIXELS.
    dtype : 'float32' or 'float64'
    batch : int
    rule : str
        'adam', 'sgd_momentum' or 'sgd_nesterov_momentum'.
    dropout, compiled : bool
        Whether to keep the dropout stages; whether PyTorch compiles its network.
    precision : str or None
        'bfloat16', or `dtype`, which None stands for.

    Attributes
    ----------
    own_step, torch_step : callable
        Make a step and return the loss, a float.
    multiply_adds : int
        Of convolutions and affine layers for one image, forward.
    """

    def __init__(self, torch, name, dtype, batch, rule, *, dropout=True, compiled=False, precision=None):
        from cnnlib.benchmarking.torch_module import TorchNet

        model = own.model(name, dtype, dropout, even_padding)
        model.precision = precision or dtype
        module = TorchNet(model).train()
        stages = node_stages(model.graph(), model.params, own.INPUT_DIM)
        self.multiply_adds = sum(stage.multiply_adds for stage in stages)
        X, y = own.minibatch(dtype, batch, name)
        self.own_step = own.OwnStep(model, X, y, rule)
        self.torch_step = TorchStep(torch, module, X, y, rule, compiled, model.precision)


class TorchStep:
    def __init__(self, torch, module, X, y, rule, compiled, precision):
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        narrow = precision == "bfloat16"
        self.autocast = functools.partial(torch.autocast, "cpu", torch.bfloat16, enabled=narrow)
        if narrow:  # the layout in which its products of bfloat16 are fastest
            module = module.to(memory_format=torch.channels_last)
            self.X = self.X.contiguous(memory_format=torch.channels_last)
        self.network = torch.compile(module) if compiled else module
        self.loss = torch.nn.functional.cross_entropy
        parameters = list(module.parameters())
        if rule == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=own.RATE, fused=True)
        else:
            nesterov = rule == "sgd_nesterov_momentum"
            self.optimizer = torch.optim.SGD(
                parameters, lr=own.RATE, momentum=0.9, nesterov=nesterov, fused=True
            )

    def __call__(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.loss(self.network(self.X), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def loss_difference(pair, steps):
    """Largest relative difference between the two sides' losses in the first steps."""
    worst = 0.0
    for _ in range(steps):
        ours, theirs = pair.own_step(), pair.torch_step()
        worst = max(worst, abs(ours - theirs) / abs(theirs))
    return worst


def torch_allocations(torch, step):
    """What a step of PyTorch's allocates in the steady state, as its profiler tells."""
    step()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return sum(event["name"] == "[memory]" and event["args"]["Bytes"] > 0 for event in events)


def own_buffers(step):
    """Buffers that a step takes in the steady state, and those among them that the system had to give."""
    return _counted(step, _core.buffer_counts)


def page_faults(step):
    """Page faults of a step in the steady state."""
    return _counted(step, lambda: (resource.getrusage(resource.RUSAGE_SELF).ru_minflt,))[0]


def _counted(step, counts):
    """By how much a step raises each of `counts()`, in the mean of some, when one has been made."""
    step()
    before = counts()
    for _ in range(_COUNTED_STEPS):
        step()
    return [(b - a) / _COUNTED_STEPS for a, b in zip(before, counts(), strict=True)]

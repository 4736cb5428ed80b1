"""PyTorch training steps with cnnlib's modules beside PyTorch's own, in turn.

The loop is a PyTorch user's: zero_grad, forward, cross-entropy, backward, a step of SGD with momentum, eager.
The networks are PyTorch modules; on our side `cnnlib.torch.convert` has replaced their convolutions, max
pools and batch norms, and all else (ReLU, Linear, the loss, the optimizer, autograd) is PyTorch's on both.
'channels-last' is PyTorch's with its network and images in that layout. Before timing, all sides make a few
steps from the same weights and have to report the same losses. README.md in this folder says more.
"""

from __future__ import annotations

import copy
import sys

from support import peers, runner
from support.training import own

_CHECKED_STEPS = 3
_TOLERANCE = {"float32": 1e-3, "float64": 1e-9}  # of the losses of so many steps, relative
_NETWORKS = ("vgg-small", "resnet20", "mobile-small")


def main():
    """Run the command line; returns the exit status."""
    parser = runner.parser(__doc__, ("torch",))
    add = parser.add_argument
    add("--network", nargs="+", choices=_NETWORKS, metavar="NAME", default=list(_NETWORKS), help="only these")
    add("--batch", type=int, default=64, help="images in a minibatch")
    parser.set_defaults(seconds=4.0)
    options = parser.parse_args()
    if options.quick:
        options.seconds = min(options.seconds, 0.5)
    return runner.beside_torch("Steps of a PyTorch loop", options, _measure)


def _measure(options, condition, threads):
    """The child's part: print a row for each network and dtype."""
    _, others = peers.sides(["torch"], threads)
    torch = others["torch"].torch
    for name in options.network:
        for dtype in options.dtypes:
            if options.only and not options.only.search(f"{name} {dtype}"):
                continue
            difference = _loss_difference(_loops(torch, name, dtype, options.batch, dropout=False))
            loops = _loops(torch, name, dtype, options.batch)
            agreed = difference <= _TOLERANCE[dtype]
            timed = {key: (loop, _nothing) for key, loop in loops.items() if agreed and key != "cnnlib"}
            row = {
                "group": "torch loop",
                "name": f"{name} N={options.batch}",
                "dtype": dtype,
                "direction": "step",
                "threads": threads,
                "condition": condition,
                "flops": 0,
                "bytes": 0,
            }
            row |= runner.time_cell((loops["cnnlib"], _nothing), timed, options.seconds, dtype)
            runner.emit(row | {"difference": difference, "wrong": [] if agreed else list(loops)})


def _loops(torch, name, dtype, batch, dropout=True):
    """A training step by each side, from the same weights on the same minibatch."""
    import cnnlib.torch
    from cnnlib.benchmarking.torch_module import TorchNet
    from support.inference.networks import even_padding

    torch.manual_seed(0)
    network = own.model(name, dtype, dropout, even_padding)
    module = TorchNet(network).train()
    X, y = (torch.from_numpy(array) for array in own.minibatch(dtype, batch))
    last = torch.channels_last
    sides = {
        "cnnlib": (cnnlib.torch.convert(module), X),
        "torch": (module, X),
        "channels-last": (copy.deepcopy(module).to(memory_format=last), X.to(memory_format=last)),
    }
    return {key: _loop(torch, net, images, y) for key, (net, images) in sides.items()}


def _loop(torch, net, X, y):
    optimizer = torch.optim.SGD(net.parameters(), lr=own.RATE, momentum=0.9)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(X), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _loss_difference(loops):
    """The largest relative difference from PyTorch's losses over a few steps."""
    losses = {key: [loop() for _ in range(_CHECKED_STEPS)] for key, loop in loops.items()}
    return max(abs(a - b) / abs(b) for values in losses.values() for a, b in zip(values, losses["torch"]))


def _nothing(result):
    return ()


if __name__ == "__main__":
    sys.exit(main())

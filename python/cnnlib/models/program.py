"""A graph made ready to run: forward, and backward for what is trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from cnnlib import _core, layers
from cnnlib._typing import Array, Gradients
from cnnlib.models import joins
from cnnlib.models.fusion import fused
from cnnlib.models.graph import Graph, Node


class Step:
    """A node that runs: a layer or sandwich of cnnlib.layers.

    Attributes
    ----------
    trains : bool
        Whether it has parameters that are trained.
    needs : tuple of bool
        For each input, whether its gradient is asked for.
    active : bool
        Whether it takes part in the backward pass.
    """

    def __init__(self, node: Node, frozen: Collection[str] = ()) -> None:
        self.node, self.frozen = node, frozen
        self.trains = any(name and name not in frozen for name in node.params)
        self.needs = (True,) * len(node.inputs)
        self.active = True

    def forward(self, params: Mapping[str, Array], *xs: Array) -> tuple[Array, Any]:
        values = (None if name is None else params[name] for name in self.node.params)
        return getattr(layers, f"{self.node.layer}_forward")(*xs, *values, *self.node.args)

    def backward(self, dout: Array, cache: Any, grads: Gradients) -> tuple[Array | None, ...]:
        """Write the gradients of the parameters that are trained to `grads`; return those of the inputs."""
        backward = getattr(layers, f"{self.node.layer}_backward")
        names = self.node.params
        if not names:
            return (backward(dout, cache),)
        if self.node.layer.startswith(("conv", "affine")):
            weights = zip(("dw", "db"), names, strict=False)
            needs = ["dx"] if self.needs[0] else []
            needs += [need for need, name in weights if name and name not in self.frozen]
            dx, *values = backward(dout, cache, needs=needs)
        else:
            dx, *values = backward(dout, cache)
        for name, value in zip(names, values, strict=True):
            if name and name not in self.frozen:
                grads[name] = grads[name] + value if name in grads else value
        return (dx,)


class JoinStep(Step):
    """A node of :mod:`cnnlib.models.joins`."""

    def forward(self, params: Mapping[str, Array], *xs: Array) -> tuple[Array, Any]:
        return joins.FORWARD[self.node.layer](*xs, *self.node.args)

    def backward(self, dout: Array, cache: Any, grads: Gradients) -> tuple[Array | None, ...]:
        return joins.BACKWARD[self.node.layer](dout, cache, self.needs)


class Program:
    """The steps of a graph.

    Parameters
    ----------
    where : str
        What messages begin with.
    graph : Graph
    frozen : collection of str
        Parameters that are not trained: they get no gradient, and what lies before the first trained ones is
        left out of the backward pass.
    special : dict of str to callable
        Makes the steps, from a node and `frozen`, for layers that are not to run as they are.
    """

    def __init__(
        self,
        where: str,
        graph: Graph,
        frozen: Collection[str] = (),
        special: Mapping[str, Callable[[Node, Collection[str]], Step]] | None = None,
    ) -> None:
        graph.check(where)
        special = special or {}
        self.where, self.input, self.output = where, graph.input, graph.output
        self.steps = [
            special.get(node.layer, JoinStep if node.layer in joins.FORWARD else Step)(node, frozen)
            for node in fused(graph, special)
        ]
        self._mark_active()
        self._done = self._last_reads()

    def forward(self, params: Mapping[str, Array], x: Array, keep: bool) -> tuple[Array, list[Any]]:
        """Run it; return the output and, to `keep`, the caches of the steps that :meth:`backward` takes.

        A value is dropped as soon as its last reader has run.
        """
        values, caches = {self.input: x}, []
        for step, done in zip(self.steps, self._done, strict=True):
            try:
                out, cache = step.forward(params, *(values[name] for name in step.node.inputs))
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self.where}: {step.node.title}: {error}") from error
            values[step.node.output] = out
            for name in done:
                del values[name]
            if keep:
                caches.append(cache if step.active else None)
            del cache  # it holds the step's input
        return values[self.output], caches

    def backward(self, dout: Array, caches: list[Any], grads: Gradients) -> None:
        """Write the gradients of the trained parameters to `grads`.

        Uses up `caches`, so that memory is free again as soon as possible.
        """
        douts = _Sums()
        douts.add(self.output, dout, False)
        for step in reversed(self.steps):
            cache = caches.pop()
            if not step.active:
                continue
            dout = douts.pop(step.node.output)[0]
            dxs = step.backward(dout, cache, grads)
            for name, dx, need in zip(step.node.inputs, dxs, step.needs, strict=True):
                if need and dx is not None:
                    shared = np.may_share_memory(dx, dout) or sum(dx is other for other in dxs) > 1
                    douts.add(name, dx, not shared)

    def _mark_active(self):
        """A value's gradient is asked for where something is trained before it."""
        trained = {self.input: False}
        for step in self.steps:
            step.needs = tuple(trained[name] for name in step.node.inputs)
            step.active = trained[step.node.output] = step.trains or any(step.needs)

    def _last_reads(self):
        """For each step, the values that no later one reads."""
        seen, result = {self.output}, []
        for step in reversed(self.steps):
            result.append([name for name in dict.fromkeys(step.node.inputs) if name not in seen])
            seen.update(step.node.inputs)
        return result[::-1]


class _Sums(dict[str, tuple[Array, bool]]):
    """Gradients of values, each summed over those who read it, and whether the array is nobody else's."""

    def add(self, name: str, dx: Array, own: bool) -> None:
        if name not in self:
            self[name] = dx, own
            return
        total, total_own = self.pop(name)
        if not (own or total_own):
            self[name] = _core.add("add", np.ascontiguousarray(total), np.ascontiguousarray(dx)), True
            return
        if not total_own:
            total, dx = dx, total
        _core.add_to("add", total, np.ascontiguousarray(dx))
        self[name] = total, True

"""A graph made ready to run: forward, and backward for what is trained."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib import _core, layers
from cnnlib._params import check_keys
from cnnlib._params.arrays import gradient_like
from cnnlib._typing import Array, Gradients, Outputs, Wanted
from cnnlib.graph import joins
from cnnlib.graph.graph import Graph, Node, last_reads, trained_values
from cnnlib.graph.lowering import fused
from cnnlib.graph.shapes import shapes
from cnnlib.layers.scoring import SCORING
from cnnlib.models.training import CompiledTraining, why_interpreted, why_not_ready

_LOG = logging.getLogger("cnnlib")
_WHERE = "loss"  # what messages about gradients begin with
_MOST_SIZES = 16  # of images, for which the core's form is kept
_HANDING_ON = ("add", "add_relu", "concat", "dropout", "flatten")


class Step:
    """A node that runs: a layer or sandwich of cnnlib.layers, or a node of cnnlib.graph.joins.

    `needs` says for each input whether its gradient is asked for, `active` whether the node takes part in the
    backward pass, and `hands_on` whether the gradients of its inputs may be the arrays that it was given, or
    one array for several.
    """

    def __init__(self, node: Node, frozen: Collection[str] = ()) -> None:
        self.node, self.frozen = node, frozen
        self.inputs, self.output = node.inputs, node.output
        self.needs = (True,) * len(node.inputs)
        self.active = True
        self.hands_on = node.layer in _HANDING_ON
        self._names, self._args = node.params, node.args
        self._trained = [None if name in frozen else name for name in node.params]
        weights = zip(("dw", "db"), node.params, strict=False)
        # A tuple: for a list the layers would take the longer way around their fast entry.
        self._weights = tuple(need for need, name in weights if name and name not in frozen)
        self._some = any(name in frozen for name in node.params[:2])  # else None asks for all gradients
        self._choosy = bool(node.params) and node.layer.startswith(("conv", "affine"))

    def forward(self, params: Mapping[str, Array], *xs: Array) -> tuple[Array, Any]:
        values = [None if name is None else params[name] for name in self._names]
        return joins.forward_of(self.node.layer)(*xs, *values, *self._args)

    def scores(self, params: Mapping[str, Array], *xs: Array) -> Array:
        """The output alone, in test mode."""
        function = SCORING.get(self.node.layer)
        if function is None:
            return self.forward(params, *xs)[0]
        return function(*xs, *[None if name is None else params[name] for name in self._names], *self._args)

    def backward(self, dout: Array, cache: Any, grads: Gradients) -> Sequence[Wanted]:
        """Write the gradients of the parameters that are trained to `grads`; return those of the inputs."""
        if self.node.layer in joins.FUNCTIONS:
            return joins.FUNCTIONS[self.node.layer][1](dout, cache, self.needs)
        backward = getattr(layers, f"{self.node.layer}_backward")
        if self._choosy:  # it can leave gradients out
            needs = self._weights if not self.needs[0] else ("dx", *self._weights) if self._some else None
            dx, *values = backward(dout, cache, needs=needs)
        elif self._names:
            dx, *values = backward(dout, cache)
        else:
            return (backward(dout, cache),)
        self.note(values, grads)
        return (dx if self.needs[0] else None,)

    def note(self, values: Sequence[Array], grads: Gradients) -> None:
        """Add the gradients of the parameters that are trained to `grads`: several nodes may share one."""
        for name, value in zip(self._trained, values, strict=True):
            if name:
                grads[name] = grads[name] + value if name in grads else value


class Program:
    """The steps of a graph, as its `check` passes it; messages begin with `where`.

    Parameters that are `frozen` get no gradient, and what lies before the first trained ones is left out of
    the backward pass. `special` makes the steps, from a node and `frozen`, for layers that are not to run as
    they are. `in_core`: whether the core may run forward and backward by itself; else the layers' functions
    run one by one. Where it may and cannot, `why_interpreted` says why, and the logger 'cnnlib' has said so.
    """

    def __init__(
        self,
        where: str,
        graph: Graph,
        frozen: Collection[str] = (),
        special: Mapping[str, Callable[[Node, Collection[str]], Step]] | None = None,
    ) -> None:
        special = special or {}
        self.where, self.input, self._named = where, graph.input, bool(graph.outputs)
        self.outputs = graph.results()
        self._graph, self.in_core = graph, not special
        self._frozen = frozen
        # By shape and dtype of samples: the core's form, or why there is none.
        self._compiled: dict[tuple[Any, ...], CompiledTraining | str] = {}
        self.why_interpreted: list[str] = []
        self.steps = [special.get(node.layer, Step)(node, frozen) for node in fused(graph, special)]
        reads = Counter(name for step in self.steps for name in step.inputs)
        reads.update(self.outputs)
        self._sums = {name for name, count in reads.items() if count > 1}  # gradients from several readers
        # A value's gradient is asked for where something is trained before it.
        trained = trained_values([step.node for step in self.steps], self.input, frozen)
        for step in self.steps:
            step.needs = tuple(trained[name] for name in step.inputs)
            step.active = trained[step.output]
        self._done = last_reads([step.node for step in self.steps], self.outputs)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_compiled": {}}

    def scores(self, params: Mapping[str, Array], x: Array) -> Outputs:
        """Run it in test mode: no more is kept of what the steps compute than later ones read."""
        return self._of(self._run(params, x, train=False)[0])

    def forward(self, params: Mapping[str, Array], x: Array) -> tuple[Outputs, list[Any]]:
        """Run it; return the output, several by their names, and the caches that :meth:`backward` takes."""
        compiled = self._compiled_for(params, x)
        if compiled is not None:
            batch, arrays = compiled.forward(params, x)
            outputs, caches = dict(zip(self.outputs, arrays, strict=True)), [compiled, batch]
        else:
            outputs, caches = self._run(params, x, train=True)
        caches.append({name: (array.shape, array.dtype) for name, array in outputs.items()})
        return self._of(outputs), caches

    def _run(self, params, x, train):
        """The steps one after the other: the outputs by name, and caches of those that are trained."""
        values, caches = {self.input: x}, []
        for step, done in zip(self.steps, self._done, strict=True):
            xs = map(values.__getitem__, step.inputs)
            try:
                # What is frozen keeps nothing: its batch norms rest, so `scores` has the same bits.
                keep = train and step.active
                out, cache = step.forward(params, *xs) if keep else (step.scores(params, *xs), None)
            except (KeyError, TypeError, ValueError) as error:
                # Where an array or an option is wrong, it says so of the one layer, as `prepare` does.
                shapes(self._graph, params, x.shape[1:], self.where)
                raise type(error)(f"{self.where}: {step.node.title}: {error.args[0]}") from error
            values[step.output] = out
            caches.append(cache)
            for name in done:
                del values[name]
        return {name: values[name] for name in self.outputs}, caches

    def backward(self, dout: Outputs, caches: list[Any], grads: Gradients) -> None:
        """Write the gradients of the trained parameters to `grads`.

        `dout` is the gradient of the output, of any real dtype and in any order; of several outputs a dict,
        in which one that is left out, or None, has a gradient of 0. Uses up `caches`, so that memory is free
        again as soon as possible.
        """
        douts = self._gradients(dout, caches.pop())
        if caches and isinstance(caches[0], CompiledTraining):
            compiled, batch = caches
            return compiled.backward(batch, list(douts.values()), grads)
        own: set[str] = set()
        for step in reversed(self.steps):
            cache = caches.pop()
            if not step.active:
                continue
            dxs = step.backward(douts.pop(step.output), cache, grads)
            for name, dx in zip(step.inputs, dxs, strict=True):
                if name in self._sums:
                    _add_to(douts, own, name, dx, step.hands_on)
                else:
                    douts[name] = dx
            del dxs, dx  # what has been added to another array is of no more use

    def _gradients(self, dout, outputs):
        """The gradients of the outputs, each like its output, of which `outputs` has shape and dtype."""
        what = "the gradient of the output"
        if not self._named:
            return {name: gradient_like(_WHERE, what, dout, *like) for name, like in outputs.items()}
        check_keys(_WHERE, "the gradients of the outputs", dout, self.outputs)
        return {
            name: np.zeros(*like)
            if dout.get(name) is None
            else gradient_like(_WHERE, f"{what} {name!r}", dout[name], *like)
            for name, like in outputs.items()
        }

    def _compiled_for(self, params, x):
        """The core's form of it for samples like x, or None where there is none, which is told once."""
        if not self.in_core or not len(x):
            return None
        key = x.shape[1:], x.dtype, _core.get_conv_algorithm()
        compiled = self._compiled.get(key)
        if compiled is None or not (isinstance(compiled, str) or compiled.fits(params)):
            found = shapes(self._graph, params, x.shape[1:], self.where)
            compiled = why_interpreted(self._graph, found, self._frozen)
            if not compiled:
                if why := why_not_ready(self._graph, params, x.dtype):
                    return self._interpreted(why)
                compiled = CompiledTraining(self.where, self._graph, params, found, x.dtype, self._frozen)
            if len(self._compiled) >= _MOST_SIZES:
                self._compiled.pop(next(iter(self._compiled)), None)
            self._compiled[key] = compiled
        if isinstance(compiled, str):
            return self._interpreted(compiled)
        if not compiled.in_train_mode():
            return self._interpreted("its batch norms and dropout layers are not all in 'train' mode")
        return compiled

    def _interpreted(self, why: str) -> None:
        """Say, once for each reason, why the core does not train the network as a whole."""
        if why not in self.why_interpreted:
            self.why_interpreted.append(why)
            _LOG.warning("%s: its layers are trained one by one, not compiled into one: %s", self.where, why)

    def _of(self, outputs: dict[str, Array]) -> Outputs:
        """The outputs as the caller gets them: one array, or a dict of the named ones."""
        return outputs if self._named else outputs[self.outputs[0]]


def _add_to(douts, own, name, dx, shared):
    """Add `dx` to the gradient `name`; `own` names those whose array nobody else holds.

    An array that is `shared`, being the gradient of other values too, has to stay as it is.
    """
    if dx is None:
        return
    total = douts.get(name)
    if total is None:
        douts[name] = dx
    elif shared and name not in own:
        douts[name] = _core.add("add", total, dx)
        shared = False
    else:
        if name not in own:
            douts[name], total, dx = dx, dx, total
        _core.add_to("add", total, dx)
    if not shared:
        own.add(name)

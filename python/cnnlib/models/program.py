"""A graph made ready to run: scores, and a step forward and backward for what is trained."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlib import _core
from cnnlib._params import check_keys
from cnnlib._params.arrays import gradient_like
from cnnlib._typing import Array, Gradients, Outputs, Wanted
from cnnlib.graph.compile import CompiledGraph, why_interpreted, why_not_ready, why_not_scored
from cnnlib.graph.fusion import fused
from cnnlib.graph.graph import Graph, Node, last_reads, trained_values
from cnnlib.graph.ops import op_of
from cnnlib.graph.options import plain
from cnnlib.graph.run import Run
from cnnlib.graph.shapes import shapes
from cnnlib.models.step_times import LayerTime, StepTimes

_LOG = logging.getLogger("cnnlib")
_WHERE = "loss"  # what messages about gradients begin with
_MOST_SIZES = 16  # of images, for which the core's form is kept


class Step:
    """A node that runs by the functions of its op.

    `needs` says for each input whether its gradient is asked for, and `active` whether the node takes part in
    the backward pass. Its batch norm, if there is one, rests where its parameters are `frozen`: it uses the
    running statistics in training, too.
    """

    def __init__(self, node: Node, frozen: Collection[str] = ()) -> None:
        self.node, self.frozen, self.op = node, frozen, node.op
        self.inputs, self.output = node.inputs, node.output
        self.needs = (True,) * len(node.inputs)
        self.active = True
        self._names = node.params
        self._trained = [None if name in frozen else name for name in node.params]
        weights = zip(("dw", "db"), node.params, strict=False)
        # A tuple: for a list the layers would take the longer way around their fast entry.
        self._weights = tuple(need for need, name in weights if name and name not in frozen)
        self._some = any(name in frozen for name in node.params[:2])  # else None asks for all gradients
        self._args = tuple(map(plain, node.args))
        self._statistics_of = node.statistics_of
        self._place = _place_of_bn_param(node) if self._statistics_of else None
        self.rests = bool(self._statistics_of) and frozen and set(node.params[-2:]) <= set(frozen)

    def _values(self, run: Run) -> tuple[list[Any], list[Any]]:
        """The arrays and the arguments behind the inputs."""
        values = [None if name is None else run.params[name] for name in self._names]
        args = list(self._args)
        if self._place is not None:
            args[self._place] = run.bn_param(self._statistics_of, run.train and not self.rests)
        elif self.op.per_call:
            args[0] = run.dropout_param(self.output, args[0])
        return values, args

    def _note_statistics(self, run: Run, args: list[Any]) -> None:
        """Note the running statistics that a batch norm wrote into its dict."""
        if self._place is not None and args[self._place]["mode"] == "train":
            moved = args[self._place]
            run.move(self._statistics_of, moved["running_mean"], moved["running_var"])

    def forward(self, run: Run, *xs: Array) -> tuple[Array, Any]:
        values, args = self._values(run)
        out, cache = self.op.forward(*xs, *values, *args)
        self._note_statistics(run, args)
        return out, cache

    def scores(self, run: Run, *xs: Array) -> Array:
        """The output alone, of a network in test mode, or of a node that no gradient reaches."""
        if self.op.scoring is None:
            return self.forward(run, *xs)[0]
        values, args = self._values(run)
        out = self.op.scoring(*xs, *values, *args)
        self._note_statistics(run, args)
        return out

    def backward(self, dout: Array, cache: Any, grads: Gradients) -> Sequence[Wanted]:
        """Write the gradients of the parameters that are trained to `grads`; return those of the inputs."""
        backward = self.op.backward
        if self.op.joins:
            gradients: Sequence[Wanted] = backward(dout, cache, self.needs)
            self.note(gradients[len(self.inputs) :], grads)
            return gradients[: len(self.inputs)]
        if self.op.leaves_out:
            needs = self._weights if not self.needs[0] else ("dx", *self._weights) if self._some else None
            dx, *values = backward(dout, cache, needs=needs)
        elif self._names:
            dx, *values = backward(dout, cache)
        elif len(self.inputs) > 1:
            pairs = zip(self.needs, backward(dout, cache), strict=True)
            return tuple(dx if needed else None for needed, dx in pairs)
        else:
            return (backward(dout, cache),)
        self.note(values, grads)
        return (dx if self.needs[0] else None,)

    def note(self, values: Sequence[Any], grads: Gradients) -> None:
        """Add the gradients of the parameters that are trained to `grads`: several nodes may share one."""
        for name, value in zip(self._trained, values, strict=True):
            if name:
                grads[name] = grads[name] + value if name in grads else value


def _place_of_bn_param(node: Node) -> int:
    """Where the batch norm's dict is in the arguments of a node, which may be of several layers."""
    place = 0
    for part in node.op.parts or (node.layer,):
        op = op_of(part)
        if op.statistics:
            break
        place += len(op.signature.parameters)
    return place


class Program:
    """The steps of a graph, as its `check` passes it; messages begin with `where`.

    Parameters that are `frozen` get no gradient, and what lies before the first trained ones is left out of
    the backward pass. `special` makes the steps, from a node and `frozen`, for layers that are not to train
    as they are. `in_core`: whether the core may run the graph as a whole; else the layers' functions run one
    by one. Where it may train it and cannot, `why_interpreted` says why, and the logger 'cnnlib' has said so.
    """

    def __init__(
        self,
        where: str,
        graph: Graph,
        frozen: Collection[str] = (),
        special: Mapping[str, Callable[[Node, Collection[str]], Step]] | None = None,
        bfloat16: bool = False,
    ) -> None:
        special = special or {}
        self._bfloat16 = bfloat16
        self.where, self.input, self._named = where, graph.input, bool(graph.outputs)
        self.outputs = graph.results()
        self._graph, self.in_core, self._has_special = graph, True, bool(special)
        self._frozen = frozen
        # By shape and dtype of samples: the core's form, or why there is none.
        self._trained: dict[tuple[Any, ...], CompiledGraph | str] = {}
        self._scored: dict[tuple[Any, ...], CompiledGraph | str] = {}
        # The form that gave scores last, and its weights: the next batch has them too, unless a step is made.
        self._weights: tuple[CompiledGraph | None, Any] = None, None
        self.why_interpreted: list[str] = []
        self.steps = [special.get(node.layer, Step)(node, frozen) for node in fused(graph, "layers", special)]
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
        return vars(self) | {"_trained": {}, "_scored": {}, "_weights": (None, None)}

    def sizes(self) -> list[tuple[int, ...]]:
        """Return the shapes of samples for which the core has a form of it, for scores or for training."""
        forms = [*dict(self._scored).items(), *dict(self._trained).items()]  # other threads change them
        return [key[0] for key, form in forms if not isinstance(form, str)]

    def scores(self, run: Run, x: Array) -> Outputs:
        """The outputs alone, in test mode: no more is kept of what is computed than later layers read.

        Threads may call it at once, also while another one trains.
        """
        form = self._scored_by(run.params, x)
        if form is None:
            return self._of(self._run(run, x, keep=False)[0])
        last, before = self._weights
        weights = form.weights(run, before if last is form else None)
        self._weights = form, weights
        return form.scores(x, weights)

    def forward(self, run: Run, x: Array, times: StepTimes | None = None) -> tuple[Outputs, list[Any]]:
        """Run it; return the output, several by their names, and the caches that :meth:`backward` takes.

        Where `times` are given, each operation is measured on its way forward and back.
        """
        self._weights = None, None  # which the step is about to change
        compiled = self._trained_by(run.params, x)
        if compiled is not None:
            batch, arrays = compiled.forward(run, x, times is not None)
            outputs, caches = dict(zip(self.outputs, arrays, strict=True)), [compiled, batch]
            if times is not None:
                shapes_read = [(len(x), *shape) for shape in compiled.inputs]
                times.layers += map(LayerTime, compiled.names, shapes_read)
        else:
            outputs, caches = self._run(run, x, keep=True, times=times)
        caches.append({name: (array.shape, array.dtype) for name, array in outputs.items()})
        return self._of(outputs), caches

    def _run(self, run, x, keep, times=None):
        """The steps one after the other: the outputs by name, and, to `keep`, caches for the way back."""
        values, caches = {self.input: x}, []
        for step, done in zip(self.steps, self._done, strict=True):
            xs = [values[name] for name in step.inputs]
            started = time.perf_counter()
            try:
                # What is frozen keeps nothing: its batch norms rest, so `scores` has the same bits.
                kept = keep and step.active
                out, cache = step.forward(run, *xs) if kept else (step.scores(run, *xs), None)
            except (KeyError, TypeError, ValueError) as error:
                # Where an array or an option is wrong, it says so of the one layer, as `prepare` does.
                shapes(self._graph.with_norms(run.norms), run.params, x.shape[1:], self.where)
                raise type(error)(f"{self.where}: {step.node.title}: {error.args[0]}") from error
            if times is not None:
                seconds = time.perf_counter() - started
                times.layers.append(LayerTime(step.node.label or step.node.layer, xs[0].shape, seconds))
            del xs  # so that what no later step reads is released
            values[step.output] = out
            caches.append(cache)
            for name in done:
                del values[name]
        return {name: values[name] for name in self.outputs}, caches

    def backward(
        self, dout: Outputs, caches: list[Any], grads: Gradients, times: StepTimes | None = None
    ) -> None:
        """Write the gradients of the trained parameters to `grads`.

        `dout` is the gradient of the output, of any real dtype and in any order; of several outputs a dict,
        in which one that is left out, or None, has a gradient of 0. Uses up `caches`, so that memory is free
        again as soon as possible. `times` are those that :meth:`forward` was given.
        """
        douts = self._gradients(dout, caches.pop())
        if caches and isinstance(caches[0], CompiledGraph):
            compiled, batch = caches
            compiled.backward(batch, list(douts.values()), grads)
            if times is not None:
                for layer, seconds in zip(times.layers, compiled.seconds(batch), strict=True):
                    layer.forward, layer.backward = seconds
            return
        own: set[str] = set()
        for place in reversed(range(len(self.steps))):
            step, cache, started = self.steps[place], caches.pop(), time.perf_counter()
            if not step.active:
                continue
            dxs = step.backward(douts.pop(step.output), cache, grads)
            for name, dx in zip(step.inputs, dxs, strict=True):
                if name in self._sums:
                    _add_to(douts, own, name, dx, step.op.hands_on)
                else:
                    douts[name] = dx
            del dxs, dx  # what has been added to another array is of no more use
            if times is not None:
                times.layers[place].backward = time.perf_counter() - started

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

    def _trained_by(self, params, x):
        """The core's form of it that trains on samples like x, or None, which is told once."""
        if not self.in_core or self._has_special or not len(x):
            return None
        form = self._form(self._trained, params, x)
        return self._interpreted(form) if isinstance(form, str) else form

    def _scored_by(self, params, x):
        """The core's form of it that gives scores of samples like x, or None where there is none."""
        form = self._form(self._scored, params, x) if self.in_core else ""
        return None if isinstance(form, str) else form

    def _form(self, forms, params, x):
        """One of `forms`, which are those for training or those for scores, or why there is none."""
        train = forms is self._trained
        extension = _core.active_bfloat16() if train and self._bfloat16 else None
        key = x.shape[1:], x.dtype, _core.get_conv_algorithm(), _core.active_isa(), extension
        form = forms.get(key)
        if form is None or not (isinstance(form, str) or form.fits(params)):
            found = shapes(self._graph, params, x.shape[1:], self.where)
            form = why_interpreted(self._graph, found, self._frozen) if train else why_not_scored(self._graph)
            if not form:
                if why := why_not_ready(self._graph, params, x.dtype):
                    return why
                bfloat16 = extension is not None and x.dtype == np.float32
                trained = {"train": True, "frozen": self._frozen, "bfloat16": bfloat16}
                how = trained if train else {"live": True}
                form = CompiledGraph(self._graph, params, *key[:2], where=self.where, **how)
            if len(forms) >= _MOST_SIZES:
                forms.pop(next(iter(forms)), None)
            forms[key] = form
        return form

    def _interpreted(self, why: str) -> None:
        """Say, once for each reason, why the core does not train the network as a whole."""
        if why not in self.why_interpreted:
            self.why_interpreted.append(why)
            told = f"{why}; they compute in float32, not in bfloat16" if self._bfloat16 else why
            _LOG.warning("%s: its layers are trained one by one, not compiled into one: %s", self.where, told)

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

"""A process that holds one build of cnnlib and computes and times what it is told to, an order a line.

`serve` is the process's part, `Side` is its owner's. Between orders the process waits in a read from its
pipe, and spends no time on the processors that the other build's process uses.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from support import peers, shapes, timing
from support.runner import environment_of
from support.training.own import OwnStep, minibatch, model

# Idle threads of an OpenMP runtime spin for some milliseconds before they sleep (GNU's 300,000 turns of a
# pause instruction are 5 to 17 ms), on the processors of the process whose turn is next. So a turn begins
# with a wait. OMP_WAIT_POLICY=passive would end the spinning, but then the kernel would have to wake the
# threads for each call, which costs small calls more than they take: no user runs them like that.
_QUIET = 0.02
_LONG = 0.02  # seconds of a call from which on waking the threads and warming the caches means nothing
CHECKED_STEPS = 3


class Side:
    """The owner's end of a process with a build of cnnlib.

    Parameters
    ----------
    place : path
        A folder that holds the package, or a program: a Python, of this system or not, that has it.
    script : path
        Calls `serve`.
    threads : int
    isa : str or None
        CNNLIB_ISA; None leaves the choice to cnnlib.

    Attributes
    ----------
    about : dict
        `isa`, `version` and `compiler`, by the build's own word.

    Raises
    ------
    RuntimeError
        If the process ended, an order failed, or cnnlib came from another folder.
    """

    def __init__(self, place, script, threads, isa):
        place = Path(place).resolve()
        environment, python = environment_of("installed", threads), sys.executable
        if place.is_dir():
            environment["PYTHONPATH"] = os.pathsep.join(
                filter(None, (str(place), environment.get("PYTHONPATH")))
            )
        else:
            python = str(place)
        if isa:
            environment["CNNLIB_ISA"] = isa
        self._process = subprocess.Popen(
            [python, script, "--child"],
            env=environment,
            preexec_fn=_same_processors(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt is for the owner, who then closes the pipe
        )
        self.about = self.order("hello", threads=threads)
        where = self.about.pop("file")
        if place.is_dir() and place not in Path(where).resolve().parents:
            self.close()
            raise RuntimeError(f"cnnlib was to come from {place}, but came from {where}")

    def order(self, name, **arguments):
        """Give an order and wait for its answer, a dict."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"order": name} | arguments) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process ended with status {self._process.wait()}")
        answer = json.loads(answer)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ended(self):
        return self._process.poll() is not None

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _same_processors(threads):
    """What a new process does first, where the system has it: one processor may have a busy neighbour."""
    if hasattr(os, "sched_setaffinity"):
        return lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    return None


def large_layers():
    """The tests' layers that are large enough for several threads, by their names."""
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    from large_layers import LARGE

    return LARGE


def serve():
    """Carry out the orders on standard input until it ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    worker = _Worker()
    gc.disable()  # a collection in the middle of a call would be counted as its time
    for line in sys.stdin:
        arguments = json.loads(line)
        order = arguments.pop("order")
        try:
            answer = getattr(worker, order)(**arguments)
        except Exception as error:  # the other cells are still worth having
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer or {}), file=answers, flush=True)


class _Worker:
    """The orders, as methods: their arguments come from the line, what they return goes into the answer."""

    def __init__(self):
        self._inputs = self._arrays = self._call = None
        self._normals, self._samples, self._long = timing.Normals(), [], False

    def hello(self, threads):
        import cnnlib

        self._own, self._threads = peers.Cnnlib(threads), threads
        with contextlib.redirect_stdout(None):
            config = cnnlib.show_config()
        about = {"isa": "instruction set", "version": "cnnlib", "compiler": "compiler"}
        return {key: config[name] for key, name in about.items()} | {"file": cnnlib.__file__}

    def open_conv(self, case, dtype, direction, file, write):
        """Make a cell's call, run it once; write its results to the file or compare them with those there."""
        case = shapes.ConvCase(**case | {"pad": tuple(case["pad"])})
        if self._inputs != (case, dtype):  # the directions share their arrays
            self._arrays = None
            self._arrays, self._inputs = self._normals(dtype, *case.shapes), (case, dtype)
        self._call = getattr(self._own, direction)(case, self._arrays)
        started = time.perf_counter()
        result = self._call()
        elapsed = time.perf_counter() - started
        difference = _exchanged(self._own.arrays_of(result), file, write)
        return self._opened(elapsed) | {"difference": difference}

    def open_layer(self, layer, dtype, direction, file, write):
        """The same for one of the tests' large layers."""
        layer, rng = large_layers()[layer], np.random.default_rng(0)
        arrays = layer.arrays(rng, np.dtype(dtype))
        forward = functools.partial(layer.forward, *arrays, *layer.rest())
        out, cache = forward()
        dout = rng.standard_normal(out.shape).astype(dtype)
        backward = functools.partial(layer.backward, dout, cache)
        self._call = forward if direction == "forward" else backward
        started = time.perf_counter()
        result = self._call()
        elapsed = time.perf_counter() - started
        results = [out] if direction == "forward" else self._own.arrays_of(result)
        return self._opened(elapsed) | {"difference": _exchanged(results, file, write)}

    def open_step(self, network, dtype, batch, rule, file, write):
        """Make a network's training step; its first losses (without dropout) are checked like results.

        Both builds start from the weights of the one that writes.
        """
        X, y = minibatch(dtype, batch)
        checked = model(network, dtype, dropout=False)
        if write:
            weights = {name: value.copy() for name, value in checked.params.items()}
        else:
            weights, losses = _read(file)
            checked.params.update(weights)
        step = OwnStep(checked, X, y, rule)
        own = [float(step()) for _ in range(CHECKED_STEPS)]
        difference = 0.0
        if write:
            _write((weights, own), file)
        else:
            difference = max(abs(a - b) / abs(b) for a, b in zip(own, losses, strict=True))
        self._call = OwnStep(model(network, dtype), X, y, rule)
        self._call()
        started = time.perf_counter()
        self._call()
        return self._opened(time.perf_counter() - started) | {"difference": difference}

    def open_prediction(self, network, dtype, batch, file, write):
        """Prepare a network with the weights and statistics of the build that writes; compare scores."""
        import cnnlib

        network = model(network, dtype)
        X, y = minibatch(dtype, batch)
        if write:
            network.loss(X, y)  # for running statistics: builds begin with others
        else:
            weights, statistics, wanted = _read(file)
            network.params.update(weights)
            for own, other in zip(network.bn_params, statistics, strict=True):
                own.update(other)
        predictor = cnnlib.prepare(network)
        self._call = lambda: predictor(X)
        self._call()
        started = time.perf_counter()
        scores = self._call()
        elapsed = time.perf_counter() - started
        difference = 0.0
        if write:
            statistics = [
                {"running_mean": p["running_mean"], "running_var": p["running_var"]}
                for p in network.bn_params
            ]
            _write((dict(network.params), statistics, [scores]), file)
        else:
            difference = timing.difference([scores], wanted)
        return self._opened(elapsed) | {"difference": difference}

    def _opened(self, elapsed):
        gc.collect()
        self._samples, self._long = [], elapsed > _LONG
        return {"seconds": elapsed}

    def turn(self, seconds, calls=1):
        """Time calls for so many seconds, at least `calls` of them; the answer has the minimum."""
        clock, call, samples = time.perf_counter, self._call, []
        if self._threads > 1:
            time.sleep(_QUIET)
        if not self._long:
            call()
        until = clock() + seconds
        while True:
            started = clock()
            result = call()
            ended = clock()
            del result
            samples.append(ended - started)
            if ended >= until and len(samples) >= calls:
                break
        self._samples += samples
        return {"minimum": min(samples)}

    def close(self):
        """Give up the cell; the answer has the figures of all its turns."""
        self._call, samples = None, self._samples
        return {"times": [min(samples), statistics.median(samples), len(samples)]}


def _exchanged(arrays, file, write):
    """Write the arrays, or return how much they differ from those that were written."""
    if write:
        _write(arrays, file)
        return 0.0
    return timing.difference(arrays, _read(file))


def _write(value, file):
    with open(file, "wb") as opened:
        pickle.dump(value, opened, protocol=5)


def _read(file):
    with open(file, "rb") as opened:
        return pickle.load(opened)

"""Run a problem: its arrays, its results, the loops' results in float64, and what differs."""

from __future__ import annotations

import contextlib

import cnnlib
import conv_products
import numpy as np
from cnnlib import _core, naive
from helpers import TOLERANCE, as_tuple

from problems import layers, memory

DEFAULT_THREADS = 2
MOST_LOOPS = 3e6  # steps of Python's loops in a twin: some seconds
# Sums of more values than this lose more than helpers.TOLERANCE, which was chosen for small layers.
TOLERATED_VALUES = 4096
# Rounding turns the gradient of a value near a kink on or off, in float32 of about one in a million: all of a
# gradient together may differ by this much. A wrong column of a hundred differs by ten times as much.
KINKED = 1e-2


class Run:
    """
    A problem with its arrays.

    Parameters
    ----------
    problem : Problem

    Attributes
    ----------
    names : list of str
        Of the results: 'out', 'dx', ..., and 'packed' for a convolution.

    Raises
    ------
    ValueError
        For lines that name no layer, or what no layer takes; and what the layer itself refuses.
    """

    def __init__(self, problem):
        self.problem = problem
        self.layer = layers.layer_of(problem)
        self.layout = memory.LAYOUTS[
            _one_of("layout", problem.options.get("layout", "plain"), memory.LAYOUTS)
        ]
        self.engine = _one_of("engine", problem.options.get("engine", "openmp"), ("openmp", "pool"))
        rng = np.random.default_rng(problem.options.get("seed", 0))
        self.is_loss = problem.layer in layers.LOSSES
        self.arrays = [self._random(rng, shape) for shape in self.layer.shapes]
        gradients = [f"d{name}" for name in self.layer.names]
        self.names = ["out", *gradients, *(["packed"] if problem.layer == "conv" else [])]
        with self.set_up():
            if self.is_loss:
                self.targets = self._targets(rng)
            else:
                out, _ = self.layer.forward(*self.arrays, *self.layer.rest())
                self.dout = self._random(rng, out.shape)
        for name in problem.results:
            _one_of("a result", name, self.names)

    def _random(self, rng, shape):
        return rng.standard_normal(shape, np.float32).astype(self.problem.dtype)

    def _targets(self, rng):
        x = self.arrays[0]
        if self.problem.layer in layers.OF_CLASSES:
            return rng.integers(0, x.shape[1], (x.shape[0], *x.shape[2:]))
        if self.problem.layer == "cross_entropy":
            weights = rng.uniform(0.1, 1, x.shape)
            return (weights / weights.sum(axis=1, keepdims=True)).astype(x.dtype)
        if self.problem.layer in ("bce_loss", "dice_loss"):
            return rng.integers(0, 2, x.shape).astype(x.dtype)
        return self._random(rng, x.shape)

    @contextlib.contextmanager
    def set_up(self, threads=None, pool=None):
        """Set the instruction set, threads and their engine while it lasts."""
        isa, count = _core.active_isa(), cnnlib.get_num_threads()
        if self.problem.isa and self.problem.isa not in _core.available_isas():
            raise ValueError(f"problem: this processor or build has no {self.problem.isa}")
        _core.use_isa(self.problem.isa or isa)
        cnnlib.set_num_threads(threads or max(self.problem.threads or (DEFAULT_THREADS,)))
        _core.use_thread_pool(self.engine == "pool" if pool is None else pool)
        try:
            yield
        finally:
            _core.use_thread_pool(False)
            cnnlib.set_num_threads(count)
            _core.use_isa(isa)

    def wanted(self, results):
        """Return (name, result) of the results in question."""
        chosen = self.problem.results or self.names
        return [(name, result) for name, result in zip(self.names, results) if name in chosen]

    def results(self, threads=None, pool=None, images=None, layout=None):
        """Return out and all gradients, of some of the images where `images` is a slice."""
        layout = layout or self.layout
        arrays, images = list(self.arrays), slice(None) if images is None else images
        arrays = self.layer.samples(arrays, images)
        arrays = [layout(array) for array in arrays]
        with self.set_up(threads, pool):
            if self.is_loss:
                return list(getattr(cnnlib, self.problem.layer)(arrays[0], self.targets))
            dout = layout(self.dout[images])
            out, cache = self.layer.forward(*arrays, *self.layer.rest())
            found = [out, *as_tuple(self.layer.backward(dout, cache, **self.needs()))]
            if self.problem.layer == "conv":
                found.append(self._packed(arrays))
            return found

    def needs(self):
        """Return `needs=` where the line names gradients alone: the others are then not computed."""
        asked = tuple(name for name in self.problem.results if name in ("dx", "dw", "db"))
        takes_needs = "w" in self.layer.names
        return {"needs": asked} if takes_needs and asked and asked == self.problem.results else {}

    def _packed(self, arrays):
        """Return the convolution with weights that are packed once and kept."""
        (param,) = self.layer.rest()
        packed = cnnlib.prepare_conv(*arrays[1:], param, dtype=self.problem.dtype)
        return cnnlib.conv_forward(arrays[0], packed, None, None)[0]

    def twin(self):
        """
        Return the loops' results in float64.

        Raises
        ------
        ValueError
            Where the loops would take minutes.
        """
        arrays = [array.astype(np.float64) for array in self.arrays]
        if self.is_loss:
            targets = self.targets if self.targets.dtype.kind == "i" else self.targets.astype(np.float64)
            return list(getattr(naive, f"{self.problem.layer}_naive")(arrays[0], targets))
        dout = self.dout.astype(np.float64)
        if self.problem.layer == "conv":
            (param,) = self.layer.rest()
            _, found = conv_products.conv_results(*arrays, param, lambda shape: dout)
            return [*found, found[0]]
        loops = self.dout.size * (np.prod(self.layer.shapes[1][1:]) if "conv" in self.problem.layer else 1)
        if loops > MOST_LOOPS and self.problem.layer not in layers.PLAIN:
            raise ValueError(f"problem: {self.problem} would take the loops {loops:.0f} steps")
        out, cache = self.layer.naive_forward(*arrays, *self.layer.rest())
        return [out, *as_tuple(self.layer.naive_backward(dout, cache))]


def errors(run):
    """Yield a text for each result that is not the loops' to rounding."""
    dtype = np.dtype(run.problem.dtype)
    most = max(array.size for array in (*run.arrays, getattr(run, "dout", run.arrays[0])))
    tolerance = TOLERANCE[dtype] * max(1, (most / TOLERATED_VALUES) ** 0.5)
    kinked = layers.has_kinks(run.problem.layer) and dtype == np.float32
    twin = dict(zip(run.names, run.twin()))
    for name, got in run.wanted(run.results()):
        if got is None:
            continue
        got, want = np.asarray(got, np.float64), np.asarray(twin[name])
        if got.shape != want.shape:
            yield f"{name} has shape {got.shape}, the loops' has {want.shape}"
            continue
        if not want.size:
            continue
        off = np.abs(got - want)
        # Arguments are normal. db before a batch norm is nought but for rounding, that of dw's terms.
        least = 0.0 if run.is_loss else 1.0
        if name == "db" and layers.mixes_images(run.problem):
            least = max(least, np.abs(twin["dw"]).max())
        if kinked and name != "out":
            error, limit = np.linalg.norm(off) / max(np.linalg.norm(want), least * want.size**0.5), KINKED
        else:
            error, limit = off.max() / max(np.abs(want).max(), least, np.finfo(float).tiny), tolerance
        if not error <= limit:  # NaN too
            place = tuple(int(i) for i in np.unravel_index(np.argmax(off), off.shape))
            yield f"{name} differs from the loops' by {error:.2g}, more than {limit:.2g}, most at {place}"


# Where copies of all arrays lie for the comparison of bits: the kernels read whole vectors.
PLACES = {"1 value beyond 64 bytes": memory.shifted(1), "5 values beyond 64 bytes": memory.shifted(5)}
PLACES |= {"strides of 2 values": memory.strided, "a guarded page behind each": memory.guarded}


def differing_bits(run):
    """
    Yield a text for each result whose bits depend on threads, engine, batch or address.

    The line's threads are compared with one thread, on both engines; single images with those of the batch;
    and arrays at other addresses with those where NumPy puts them.
    """
    want = run.results(threads=1)
    threads = run.problem.threads or (DEFAULT_THREADS,)
    for count in threads:
        for pool in (False, True):
            found = run.results(count, pool)
            yield from _differences(run, want, found, f"on 1 and {count} threads{' of the pool' * pool}")
    for place, layout in PLACES.items():
        yield from _differences(run, want, run.results(threads[-1], layout=layout), f"with {place}")
    N = 0 if run.is_loss else len(run.dout)
    if N < 2 or layers.mixes_images(run.problem):
        return
    for n in sorted({0, N - 1, N // 2}):
        found = run.results(threads[-1], images=slice(n, n + 1))
        one = [None if array is None else array[n : n + 1] for array in want]
        of_images = ("out", "packed", "dx", "dq", "dk", "dv")
        texts = _differences(run, one, found, f"of image {n} alone, on {threads[-1]} threads")
        yield from (text for text in texts if text.split()[0] in of_images)


def _differences(run, want, found, where):
    for (name, a), (_, b) in zip(run.wanted(want), run.wanted(found)):
        if a is not b and np.asarray(a).tobytes() != np.asarray(b).tobytes():
            yield f"{name} {where}"


def _one_of(what, value, known):
    if value not in known:
        raise ValueError(f"problem: {what} is one of {', '.join(known)}, not {value!r}")
    return value

"""Random problems, chosen so that plans of convolutions are rarely alike, and what makes a failure small."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter

import cnnlib
import numpy as np
from cnnlib import _core

from problems import layers
from problems.line import Problem

LARGEST_BYTES = 32 << 20  # of an input; beyond any second-level cache, below what makes a search slow
MOST_WORK = 4e8  # multiply-adds of a pass, some hundredths of a second
SMALL_VALUES, SMALL_WORK = 3000, 2e5  # of an input, and of a pass, for the loops
MOST_THREADS = 64
# Sizes in plans at whose multiples sums are rounded; not Winograd's, whose sums go on from block to block.
SUM_BLOCKS = ("channels", "terms", "partial sums", "channels of a row", "images")
PLANNED_THREADS = (1, 5, 64)
PASSES = ("forward", "input_gradient", "weight_gradient")
SHRINKING = 60  # seconds that are spent on one problem


class Draw:
    """
    Draws problems.

    Parameters
    ----------
    seed : int
    small : bool
        For the loops: small inputs, every layer. Else inputs of up to LARGEST_BYTES, of layers whose sums and
        planes are cut.
    """

    candidates = 24
    planned = 1000  # convolutions for each that is run: planning takes microseconds, running milliseconds

    def __init__(self, seed, small):
        self.rng = np.random.default_rng(seed)
        self.small = small
        self.seen = Counter()
        self.plans = 0

    def problem(self):
        """
        Return the next problem.

        A convolution whose plans cut sums otherwise on other threads is taken for certain. Else the one of
        some candidates is taken whose plans have in them what the fewest problems before had.
        """
        drawn = self._any()
        if self.small or drawn.layer != "conv":
            return drawn
        keys = []
        for _ in range(self.planned):
            if drawn.layer == "conv":
                plans = plans_of(drawn)
                self.plans += 1
                if sums_depend_on_threads(plans):
                    return dataclasses.replace(drawn, threads=PLANNED_THREADS[1:])
                if len(keys) < self.candidates:
                    keys.append((plan_keys(drawn, plans), drawn))
            drawn = self._any()
        rarest, best = max(keys, key=lambda each: sum(1 / (1 + self.seen[key]) for key in each[0]))
        self.seen.update(rarest)
        return best

    def _any(self):
        rng = self.rng
        dtype, isa = str(rng.choice(["float32", "float64"])), str(rng.choice(_core.available_isas()))
        _core.use_isa(isa)  # whose methods are asked for
        table = SMALL if self.small else LARGE
        layer = str(rng.choice(list(table), p=_weights(table)))
        sizes, options = table[layer](self, layer, dtype)
        threads = sorted({2, int(rng.integers(3, 9)), self.number(9, MOST_THREADS)})
        options["seed"] = int(rng.integers(1 << 16))
        if self.small and rng.random() < 0.3:
            kinds = ("fortran", "strided", "reversed", "swapped", "unaligned", "readonly")
            options["layout"] = str(rng.choice(kinds))
        if self.small:
            threads = threads[:1]
            if rng.random() < 0.5:
                options["engine"] = "pool"
        kept = {
            letter: number if isinstance(number, tuple) else (number,) for letter, number in sizes.items()
        }
        return Problem(layer, kept, (), dtype, isa, tuple(threads), options)

    def number(self, low, high):
        """Return a whole number in [low, high] whose logarithm is uniform."""
        return round(math.exp(self.rng.uniform(math.log(low), math.log(high))))

    def images(self, dtype):
        """Return N, C, H, W: many channels, large planes or long rows; powers of two in half of them."""
        rng = self.rng
        most = SMALL_VALUES if self.small else LARGEST_BYTES // np.dtype(dtype).itemsize
        values = self.number(1, most)
        N = int(rng.choice([1, 1, 2, 3, 5, 9]))
        values = max(1, values // N)
        C = min(self.number(1, 40 if self.small else 1200), values)
        plane = max(1, values // C)
        kind = rng.integers(4)
        H = 1 if kind == 0 else math.isqrt(plane) if kind < 3 else self.number(1, plane)
        sizes = C, max(1, H), max(1, plane // max(1, H))
        return N, *(map(_power_of_two, sizes) if rng.random() < 0.5 else sizes)

    def convolution(self, layer, dtype):
        """Return sizes and options of a convolution with any method that fits."""
        rng = self.rng
        N, C, H, W = self.images(dtype)
        KH, KW = (int(k) for k in rng.choice([1, 1, 2, 3, 3, 3, 4, 5, 7, 11], 2))
        if rng.random() < 0.7:
            KW = KH
        KH, KW = min(KH, H), min(KW, W)
        divisors = [g for g in range(1, C + 1) if C % g == 0]
        groups = int(rng.choice([1, 1, 1, C, rng.choice(divisors)]))
        F_group = self.number(1, 300 if rng.random() < 0.5 else 8)
        most = SMALL_WORK if self.small else MOST_WORK
        F = max(1, min(F_group, round(most / (N * C * KH * KW * H * W)) // groups)) * groups
        sizes = {"n": N, "c": C, "h": H, "w": W, "f": F, "k": (KH, KW)}
        sizes |= {"p": int(rng.integers(0, max(KH, KW))), "g": groups}
        if rng.random() < 0.3:
            sizes["s"] = int(rng.integers(1, 4))
        if rng.random() < 0.1:
            sizes["r"] = int(rng.integers(1, 4))
        span = sizes.get("r", 1) * (max(KH, KW) - 1) + 1
        if min(H, W) + 2 * sizes["p"] < span:
            sizes["r"] = 1
        options = {}
        if layer.endswith("_pool"):
            rows, columns = _outputs(sizes)
            if min(rows, columns) < 2:
                return self.convolution(layer, dtype)
        if layer in ("conv", "conv_relu"):
            try:
                plans = _explained(sizes, options, dtype)
            except ValueError:  # a window larger than the padded input
                return self.convolution(layer, dtype)
            methods = {name for each in PASSES for name, _ in getattr(plans, each).alternatives}
            options["algorithm"] = str(rng.choice(["auto", *sorted(methods)]))
        elif min(_outputs(sizes)) < 1:
            return self.convolution(layer, dtype)
        return sizes, options

    def pool(self, layer, dtype):
        sizes = dict(zip("nchw", self.images(dtype)))
        k = int(min(self.rng.integers(1, 5), sizes["h"], sizes["w"]))
        return {**sizes, "k": k, "s": int(self.rng.integers(1, 4)), "p": int(self.rng.integers(0, k))}, {}

    def affine(self, layer, dtype):
        most = SMALL_VALUES if self.small else LARGEST_BYTES // np.dtype(dtype).itemsize
        N = self.number(2 if "_bn_" in layer else 1, 40 if self.small else 2000)
        D = max(1, self.number(1, most) // N)
        F = max(1, min(self.number(1, 40 if self.small else 2000), round(MOST_WORK / N / D)))
        return {"n": N, "c": D, "f": F}, {}

    def planes(self, layer, dtype):
        """Return sizes of a layer of images, with groups where it has them."""
        sizes = dict(zip("nchw", self.images(dtype)))
        if layer == "spatial_groupnorm":
            sizes["g"] = int(self.rng.choice([g for g in range(1, sizes["c"] + 1) if sizes["c"] % g == 0]))
        if "batchnorm" in layer and sizes["n"] * sizes["h"] * sizes["w"] < 2:
            sizes["n"] = 2
        return sizes, {}

    def rows(self, layer, dtype):
        return {"n": self.number(2, 60), "c": self.number(1, 60)}, {}

    def resized(self, layer, dtype):
        sizes = dict(zip("nchw", self.images(dtype)))
        sizes["k"] = tuple(int(k) for k in self.rng.integers(1, 4, 2))
        return sizes, {"mode": "bilinear"} if layer == "upsample" and self.rng.random() < 0.5 else {}

    def attention(self, layer, dtype):
        g = int(self.rng.integers(1, 3))
        sizes = {"n": int(self.rng.integers(1, 3)), "h": g * int(self.rng.integers(1, 3)), "g": g}
        sizes |= {letter: self.number(1, 40) for letter in "lmcf"}
        return sizes, {"causal": 1} if self.rng.random() < 0.5 else {}


# By name, what draws it: the small table has every layer, the large one those whose sums and planes are cut.
LARGE = {
    "conv": Draw.convolution,
    "conv_relu": Draw.convolution,
    **dict.fromkeys(("max_pool", "avg_pool"), Draw.pool),
    "affine": Draw.affine,
    **dict.fromkeys(("spatial_batchnorm", "spatial_instancenorm", "spatial_layernorm", "gelu"), Draw.planes),
}
SMALL = {
    **dict.fromkeys(layers.CONVOLUTIONS, Draw.convolution),
    **dict.fromkeys(("max_pool", "avg_pool"), Draw.pool),
    **dict.fromkeys(layers.RESIZED, Draw.resized),
    **dict.fromkeys(("affine", "affine_relu", "affine_bn_relu"), Draw.affine),
    **dict.fromkeys(("batchnorm", "layernorm", *layers.OF_CLASSES, "cross_entropy"), Draw.rows),
    **{name: Draw.planes for name in (*layers.NORMS, *layers.BATCH_NORMS) if name.startswith("spatial")},
    **dict.fromkeys(
        (*layers.PLAIN, "mse_loss", "l1_loss", "huber_loss", "bce_loss", "dice_loss"), Draw.planes
    ),
    "attention": Draw.attention,
}


def _weights(table):
    """Return how often each layer is drawn: half of all are convolutions."""
    shares = np.array([len(table) if name == "conv" else 1 for name in table], float)
    return shares / shares.sum()


def _power_of_two(size):
    """Return the power of two below: networks have such sizes, and cuts change at them."""
    return 1 << (size.bit_length() - 1)


def _outputs(sizes):
    """Return the rows and columns of a convolution's result."""
    stride, pad, rate = sizes.get("s", 1), sizes.get("p", 0), sizes.get("r", 1)
    return [(sizes[a] + 2 * pad - rate * (k - 1) - 1) // stride + 1 for a, k in zip("hw", sizes["k"])]


def _explained(sizes, options, dtype):
    x = sizes["n"], sizes["c"], sizes["h"], sizes["w"]
    w = sizes["f"], sizes["c"] // sizes["g"], *sizes["k"]
    param = {"stride": sizes.get("s", 1), "pad": sizes["p"], "dilation": sizes.get("r", 1)}
    return cnnlib.explain(x, w, {**param, "groups": sizes["g"], **options}, dtype)


def plans_of(problem):
    """Return the plans of a convolution's passes by the number of threads."""
    layer = layers.layer_of(problem)
    _core.use_isa(problem.isa)
    plans = {}
    for threads in PLANNED_THREADS:
        cnnlib.set_num_threads(threads)
        plans[threads] = cnnlib.explain(*layer.shapes[:2], *layer.rest(), problem.dtype)
    return plans


def _passes(plans):
    for threads, of_threads in plans.items():
        for name in PASSES:
            yield threads, name, getattr(of_threads, name)


def sums_depend_on_threads(plans):
    """Return whether a size at whose multiples sums are rounded is another one on other threads."""
    sizes = {}
    for _, name, plan in _passes(plans):
        for block in SUM_BLOCKS:
            if block in plan.blocks and plan.method != "winograd":
                sizes.setdefault((name, block), set()).add(plan.blocks[block])
    return any(len(found) > 1 for found in sizes.values())


def plan_keys(problem, plans):
    """Return what plans have in them: the methods, and the sizes of their blocks to a power of two."""
    return {
        (problem.isa, problem.dtype, name, plan.method, threads, block, int(size).bit_length())
        for threads, name, plan in _passes(plans)
        for block, size in plan.blocks.items()
    }


def shrunk(problem, fails, seconds=SHRINKING):
    """
    Return a smaller problem that fails as well.

    Parameters
    ----------
    problem : Problem
    fails : callable
        Tells whether a problem fails; one that the layer refuses (ValueError) does not.
    """
    end = time.monotonic() + seconds
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(problem):
            if time.monotonic() > end:
                return problem
            try:
                found = fails(smaller)
            except ValueError:
                continue
            if found:
                problem, progress = smaller, True
                break
    return problem


# The value that says nothing: a size that has it is left out.
_NEUTRAL = {"s": 1, "p": 0, "r": 1, "o": 0, "g": 1}


def _smaller(problem):
    """Yield problems that are smaller in one respect, the boldest steps first."""
    replace = dataclasses.replace
    for key in problem.options:
        yield replace(problem, options={k: v for k, v in problem.options.items() if k != key})
    if len(problem.threads) > 1:
        for count in problem.threads:
            yield replace(problem, threads=(count,))
    elif problem.threads and problem.threads[0] > 2:
        for count in (2, problem.threads[0] // 2, problem.threads[0] - 1):
            yield replace(problem, threads=(count,))
    for letter in _NEUTRAL.keys() & problem.sizes.keys():
        yield replace(problem, sizes={key: value for key, value in problem.sizes.items() if key != letter})
    if "g" in problem.sizes:  # one group alone
        (g,) = problem.sizes["g"]
        parts = {key: (problem.sizes[key][0] // g,) for key in "cf" if key in problem.sizes}
        yield replace(problem, sizes={**problem.sizes, **parts, "g": (1,)})
    for letter, numbers in problem.sizes.items():
        for at, number in enumerate(numbers):
            for less in sorted({1, number // 2, number - 1}):
                if 0 < less < number:
                    fewer = (*numbers[:at], less, *numbers[at + 1 :])
                    yield replace(problem, sizes={**problem.sizes, letter: fewer})

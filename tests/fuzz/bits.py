"""
Look for results whose bits depend on the threads, on their engine or on the batch.

    python tests/fuzz/bits.py --seconds 600               random problems
    python tests/fuzz/bits.py --problems 200 --seed 3     a fixed number of them, the same in every run
    python tests/fuzz/bits.py --replay LINE               a problem that was found before

A problem is a layer with shapes, options, a dtype, an instruction set and a convolution method. Its results
on one thread are compared with those on 2 to 64 threads of both engines, and with those of single images of
the batch. Inputs have from a few bytes to tens of megabytes. The search prints the line of each problem whose
bits differ, with what differs, and ends with an error if there was one.
"""

import argparse
import json
import math
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import cnnlib
from cnnlib import _core
from helpers import Layer

LARGEST_BYTES = 32 << 20  # of an input; beyond any second-level cache, below what makes a search slow
MOST_WORK = 4e8  # multiply-adds of a pass, some hundredths of a second
MOST_THREADS = 64
CONVOLUTIONS = ("conv", "conv_relu")
# Sizes in plans at whose multiples sums are rounded; not Winograd's, whose sums go on from block to block.
SUM_BLOCKS = ("channels", "terms", "partial sums", "channels of a row", "images")
PLANNED_THREADS = (1, 5, 64)


def log_uniform(rng, low, high):
    """Return a whole number in [low, high] whose logarithm is uniform."""
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def power_of_two(size):
    """Return the power of two below: networks have such sizes, and cuts change at them."""
    return 1 << (size.bit_length() - 1)


def draw_images(rng, dtype):
    """Return N, C, H, W of images of up to LARGEST_BYTES: many channels, large planes or long rows."""
    values = log_uniform(rng, 1, LARGEST_BYTES) // np.dtype(dtype).itemsize
    N = int(rng.choice([1, 1, 2, 3, 5, 9]))
    values = max(1, values // N)
    C = min(log_uniform(rng, 1, 1200), values)
    plane = max(1, values // C)
    kind = rng.integers(4)
    H = 1 if kind == 0 else math.isqrt(plane) if kind < 3 else log_uniform(rng, 1, plane)
    sizes = C, max(1, H), max(1, plane // max(1, H))
    return N, *(map(power_of_two, sizes) if rng.random() < 0.5 else sizes)


def draw_conv(rng, dtype):
    """Return the shapes and conv_param of a convolution."""
    N, C, H, W = draw_images(rng, dtype)
    KH, KW = (int(k) for k in rng.choice([1, 1, 2, 3, 3, 3, 4, 5, 7, 11], 2))
    if rng.random() < 0.7:
        KW = KH
    KH, KW = min(KH, H), min(KW, W)
    divisors = [g for g in range(1, C + 1) if C % g == 0]
    groups = int(rng.choice([1, 1, 1, C, rng.choice(divisors)]))
    F_group = log_uniform(rng, 1, 300 if rng.random() < 0.5 else 8)
    work = N * C * KH * KW * H * W
    F = max(1, min(F_group, round(MOST_WORK / work) // groups)) * groups
    param = {"groups": groups, "pad": int(rng.integers(0, max(KH, KW)))}
    if rng.random() < 0.3:
        param["stride"] = int(rng.integers(1, 4))
    if rng.random() < 0.1:
        param["dilation"] = int(rng.integers(1, 4))
    span = param.get("dilation", 1) * (max(KH, KW) - 1) + 1
    if min(H, W) + 2 * param["pad"] < span:
        param["dilation"] = 1
    w = (F, C // groups, KH, KW)
    try:
        plans = cnnlib.explain((N, C, H, W), w, param, dtype)
    except ValueError:  # a window larger than the padded input
        return draw_conv(rng, dtype)
    methods = {name for plan in (plans.forward, plans.input_gradient, plans.weight_gradient)
               for name, _ in plan.alternatives}  # fmt: skip
    param["algorithm"] = str(rng.choice(["auto", *sorted(methods)]))
    return [(N, C, H, W), w, (F,)], param


def plans_of(drawn):
    """Return the plans of a convolution's passes by the number of threads."""
    _core.use_isa(drawn["isa"])
    x, w = drawn["shapes"][:2]
    plans = {}
    for threads in PLANNED_THREADS:
        cnnlib.set_num_threads(threads)
        plans[threads] = cnnlib.explain(x, w, drawn["param"], drawn["dtype"])
    return plans


def passes(plans):
    """Yield the passes of plans: (threads, name, plan)."""
    for threads, of_threads in plans.items():
        for name in ("forward", "input_gradient", "weight_gradient"):
            yield threads, name, getattr(of_threads, name)


def sums_depend_on_threads(plans):
    """Return whether a size at whose multiples sums are rounded is another one on other threads."""
    sizes = {}
    for _, name, plan in passes(plans):
        for block in SUM_BLOCKS:
            if block in plan.blocks and plan.method != "winograd":
                sizes.setdefault((name, block), set()).add(plan.blocks[block])
    return any(len(found) > 1 for found in sizes.values())


def plan_keys(drawn, plans):
    """Return what plans have in them: the methods, and the sizes of their blocks to a power of two."""
    return {
        (drawn["isa"], drawn["dtype"], name, plan.method, threads, block, int(size).bit_length())
        for threads, name, plan in passes(plans)
        for block, size in plan.blocks.items()
    }


class Choice:
    """
    Chooses the problems that are run: planning takes microseconds, running takes milliseconds.

    A convolution whose plans cut sums otherwise on other threads is run for certain. Else the one of some
    candidates is run whose plans have in them what the fewest problems before had.
    """

    candidates = 24
    planned = 1000  # convolutions for each problem that is run: so planning takes about a third of the time

    def __init__(self):
        self.seen = Counter()
        self.plans = 0

    def draw(self, rng):
        """Return the next problem."""
        drawn = draw(rng)
        if drawn["layer"] not in CONVOLUTIONS:
            return drawn
        keys = []
        for _ in range(self.planned):
            if drawn["layer"] in CONVOLUTIONS:
                plans = plans_of(drawn)
                self.plans += 1
                if sums_depend_on_threads(plans):
                    return {**drawn, "threads": list(PLANNED_THREADS[1:])}
                if len(keys) < self.candidates:
                    keys.append((plan_keys(drawn, plans), drawn))
            drawn = draw(rng)
        rarest, best = max(keys, key=lambda each: sum(1 / (1 + self.seen[key]) for key in each[0]))
        self.seen.update(rarest)
        return best


def draw(rng):
    """Return a random problem, a dict that JSON can hold."""
    dtype, isa = str(rng.choice(["float32", "float64"])), str(rng.choice(_core.available_isas()))
    _core.use_isa(isa)  # whose methods draw_conv asks for
    layer = str(rng.choice([*["conv"] * 12, *LAYERS]))
    shapes, param = LAYERS[layer](rng, dtype)
    return {
        "layer": layer,
        "dtype": dtype,
        "isa": isa,
        "shapes": shapes,
        "param": param,
        "threads": sorted({int(t) for t in [2, rng.integers(3, 9), log_uniform(rng, 9, MOST_THREADS)]}),
        "seed": int(rng.integers(1 << 30)),
    }


def of_channels(param):
    """Return what draws a layer of x, gamma and beta with this parameter dict."""

    def drawn(rng, dtype):
        x = draw_images(rng, dtype)
        return [x, x[1:2], x[1:2]], dict(param)

    return drawn


def pool(rng, dtype):
    """Return the shapes and pool_param of a pool."""
    x = draw_images(rng, dtype)
    size = int(min(rng.integers(1, 5), *x[2:]))
    param = {"pool_height": size, "pool_width": size, "stride": int(rng.integers(1, 4))}
    return [x], {**param, "pad": int(rng.integers(0, size))}


def affine(rng, dtype):
    """Return the shapes of an affine layer."""
    values = log_uniform(rng, 1, LARGEST_BYTES) // np.dtype(dtype).itemsize
    N = min(log_uniform(rng, 1, 2000), max(1, values))
    D = max(1, values // N)
    M = max(1, min(log_uniform(rng, 1, 2000), round(MOST_WORK / N / D)))
    return [(N, D), (D, M), (M,)], None


LAYERS = {
    "conv": draw_conv,
    "conv_relu": draw_conv,
    "max_pool": pool,
    "avg_pool": pool,
    "affine": affine,
    "spatial_batchnorm": of_channels({"mode": "train"}),
    "spatial_instancenorm": of_channels({}),
    "spatial_layernorm": of_channels({}),
    "gelu": lambda rng, dtype: ([draw_images(rng, dtype)], None),
}
# These mix the images of a batch, by their contract.
MIXES_IMAGES = ("spatial_batchnorm",)


class Problem:
    """The arrays of a problem, and its results on some threads and some of its images."""

    def __init__(self, drawn):
        self.drawn = drawn
        _core.use_isa(drawn["isa"])
        names = {3: ("x", "gamma", "beta"), 1: ("x",)}[len(drawn["shapes"])]
        if drawn["layer"] in ("conv", "conv_relu", "affine"):
            names = ("x", "w", "b")
        param, dtype = drawn["param"], np.dtype(drawn["dtype"])
        shapes = tuple(tuple(shape) for shape in drawn["shapes"])
        self.layer = Layer(drawn["layer"], names, shapes, lambda: () if param is None else (dict(param),))
        rng = np.random.default_rng(drawn["seed"])
        self.arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        out, _ = self.layer.forward(*self.arrays, *self.layer.rest())
        self.dout = rng.standard_normal(out.shape).astype(dtype)

    def results(self, images=slice(None)):
        """Return out and all gradients for some images."""
        arrays, dout = [self.arrays[0][images], *self.arrays[1:]], self.dout[images]
        found = list(self.layer.run(arrays, dout))
        if self.drawn["layer"] == "conv":
            found += self.prepared(arrays[0])
        return [None if array is None else np.asarray(array) for array in found]

    def prepared(self, x):
        """Return the convolution with weights that are packed once and kept."""
        packed = cnnlib.prepare_conv(*self.arrays[1:], self.drawn["param"], dtype=self.drawn["dtype"])
        return [cnnlib.conv_forward(x, packed, None, None)[0]]

    def differences(self):
        """Yield a text for each result whose bits differ from those on one thread."""
        names = ["out", *(f"d{name}" for name in self.layer.names), "out of packed weights"]
        cnnlib.set_num_threads(1)
        want = self.results()
        for threads in self.drawn["threads"]:
            cnnlib.set_num_threads(threads)
            for pool in (False, True):
                _core.use_thread_pool(pool)
                for name, a, b in zip(names, want, self.results()):
                    if not same_bits(a, b):
                        yield f"{name} on 1 and {threads} threads{' of the pool' * pool}"
            _core.use_thread_pool(False)
            N = len(self.dout)
            if self.drawn["layer"] in MIXES_IMAGES or N == 1:
                continue
            for n in {0, N - 1, N // 2}:
                found = self.results(slice(n, n + 1))
                for i in (0, 1, *([4] if len(want) > 4 else [])):  # out, dx, and out of packed weights
                    if not same_bits(want[i][n : n + 1], found[i]):
                        yield f"{names[i]} of image {n} alone, on {threads} threads"


def same_bits(a, b):
    """Return whether two arrays, or two Nones, hold the same bytes."""
    return a is b or a.tobytes() == b.tobytes()


def search(problems, seconds, seed):
    """Print the problems whose bits differ; return how many there were, and what was tried."""
    rng = np.random.default_rng(seed)
    tried, found, end, choice = Counter(), 0, time.monotonic() + seconds, Choice()
    while tried["problems"] < problems and time.monotonic() < end:
        drawn = choice.draw(rng)
        found += check(drawn)
        tried["problems"] += 1
        size = np.prod(drawn["shapes"][0]) * np.dtype(drawn["dtype"]).itemsize
        tried["input " + ("above 1 MB" if size > 1 << 20 else "below 1 MB")] += 1
        for key in ("layer", "dtype", "isa"):
            tried[drawn[key]] += 1
        if drawn["param"] and "algorithm" in drawn["param"]:
            tried[drawn["param"]["algorithm"]] += 1
    tried["plans"] = choice.plans
    return found, tried


def check(drawn):
    """Print how the bits of a problem differ; return whether they do."""
    texts = list(dict.fromkeys(Problem(drawn).differences()))
    if texts:
        print(json.dumps(drawn), *texts, sep="\n    ", flush=True)
    return bool(texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--problems", type=int, default=sys.maxsize)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", metavar="LINE")
    options = parser.parse_args()
    if options.replay:
        sys.exit(check(json.loads(options.replay)))
    found, tried = search(options.problems, options.seconds, options.seed)
    print(", ".join(f"{count} {name}" for name, count in tried.items()))
    print(f"{found} of {tried['problems']} problems have bits that differ")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()

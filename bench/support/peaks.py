"""What this machine can do at best: multiply-adds and copies a second, for the fractions in the tables.

The rate of multiply-adds comes from a loop in C over registers alone, built with the compiler at hand ($CC,
cc, gcc or clang); without one, from NumPy's matrix product, which is no peak and is labelled so.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

# Twelve chains hide the latency of a multiply-add (four cycles on two or three units), and leave two of SSE's
# registers for m and c. They run towards c / (1 - m), never towards infinity or a denormal number.
_SOURCE = r"""
typedef REAL vec __attribute__((vector_size(BYTES)));
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define START(i) vec a##i = c * (REAL)(i + 1);
#define STEP(i) a##i = a##i * m + c;
#define SUM(i) sum += a##i;
double multiply_add(long rounds, double m_, double c_) {
  vec m = (vec){} + (REAL)m_, c = (vec){} + (REAL)c_, sum = {};
  EACH(START)
  for (long r = 0; r < rounds; ++r) { EACH(STEP) }
  EACH(SUM)
  return sum[0];
}
"""
_CHAINS = 12
# A rotation takes a cycle on every processor, and each one needs the one before.
_CLOCK_SOURCE = r"""
#define ROTATE x = (x << 7) | (x >> 57); __asm__ volatile("" : "+r"(x));
unsigned long long rotate(long rounds, unsigned long long x) {
  for (long r = 0; r < rounds; ++r) { ROTATE ROTATE ROTATE ROTATE ROTATE ROTATE ROTATE ROTATE }
  return x;
}
"""
_ROTATIONS = 8
_X86_SETS = {
    "avx512": (64, ["-mavx512f", "-mfma"]),
    "avx2": (32, ["-mavx2", "-mfma"]),
    "base": (16, ["-msse4.2"]),
}
_REAL = {"float32": ("float", 4), "float64": ("double", 8)}
_REPEATS = 5
COPY_SIZES = tuple(1 << bits for bits in (20, 22, 24, 26, 28))  # bytes read and written


def multiply_add_peak(dtype, threads, isa):
    """GF/s (two operations for a multiply-add) of `threads` threads, and in words where that comes from.

    Parameters
    ----------
    dtype : 'float32' or 'float64'
    threads : int
    isa : str
        The instruction set, by cnnlib's name; the processor has to have it. 'base' multiplies and adds in two
        instructions.
    """
    function, width = _multiply_add(dtype, isa)
    if function is None:
        source = "NumPy's matrix product, for want of a C compiler: not a peak"
        return _matmul_peak(dtype, threads), source
    rounds, seconds = 1 << 14, 0.0
    while seconds < 0.03:
        rounds *= 2
        started = time.perf_counter()
        function(rounds, 0.999, 0.001)
        seconds = time.perf_counter() - started
    flops = 2.0 * _CHAINS * width * rounds
    best = min(_in_threads([lambda: function(rounds, 0.999, 0.001)] * threads) for _ in range(_REPEATS))
    return threads * flops / best / 1e9, f"multiply-adds on registers in C, {isa}"


def clock():
    """GHz of one core at this moment, from a chain of rotations; None without a C compiler."""
    rotate = _rotate()
    if rotate is None:
        return None
    rounds, best = 20_000, float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        rotate(rounds, 1)
        best = min(best, time.perf_counter() - started)
    return _ROTATIONS * rounds / best / 1e9


@functools.cache
def _multiply_add(dtype, isa):
    """The loop as a C function, and the numbers in one of its vectors; (None, 0) where it cannot be built."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    vector_bytes, flags = _X86_SETS.get(isa, (16, [])) if x86 else (16, [])
    real, size = _REAL[dtype]
    library = _built(_SOURCE, "-ffp-contract=fast", *flags, f"-DREAL={real}", f"-DBYTES={vector_bytes}")
    if library is None:
        return None, 0
    function = library.multiply_add
    function.argtypes = [ctypes.c_long, ctypes.c_double, ctypes.c_double]
    function.restype = ctypes.c_double
    return function, vector_bytes // size


@functools.cache
def _rotate():
    library = _built(_CLOCK_SOURCE)
    if library is None:
        return None
    library.rotate.argtypes = [ctypes.c_long, ctypes.c_ulonglong]
    library.rotate.restype = ctypes.c_ulonglong
    return library.rotate


def _built(source, *flags):
    """The C source as a loaded library, or None where it cannot be built."""
    candidates = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    compiler = next((path for name in candidates if name and (path := shutil.which(name))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "peak.c"), Path(folder, "peak.so")
        file.write_text(source)
        command = [compiler, "-O2", "-fPIC", "-shared", *flags, str(file), "-o", str(library)]
        if subprocess.run(command, capture_output=True).returncode:
            return None
        return ctypes.CDLL(str(library))


def _matmul_peak(dtype, threads):
    """In a process of its own: NumPy's BLAS takes its number of threads from the environment."""
    code = (
        "import time, numpy as np\n"
        f"a = np.ones((2048, 2048), np.{dtype}); best = 1e9\n"
        f"for _ in range({_REPEATS}):\n"
        "    t = time.perf_counter(); a @ a; best = min(best, time.perf_counter() - t)\n"
        "print(2 * 2048**3 / best / 1e9)"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def copy_rate(num_bytes, threads):
    """GB/s, reading and writing counted, of NumPy copies that touch `num_bytes` in all, split over threads.

    Every thread copies its own part over and over, so that starting it costs nothing; what fits a cache is
    copied there, as a layer's input often is.
    """
    part = num_bytes // (2 * threads)
    times = max(4, int(0.03 * 10e9 / num_bytes))

    def copier():
        source, target = np.ones(part, np.uint8), np.ones(part, np.uint8)

        def copy():
            for _ in range(times):
                np.copyto(target, source)

        return copy

    copies = [copier() for _ in range(threads)]
    best = min(_in_threads(copies) for _ in range(_REPEATS))
    return 2 * part * threads * times / best / 1e9


def _in_threads(functions):
    """Seconds until functions that release the GIL have all returned, started together."""
    if len(functions) == 1:
        started = time.perf_counter()
        functions[0]()
        return time.perf_counter() - started
    gate, spans = threading.Barrier(len(functions)), []

    def work(function):
        gate.wait()
        started = time.perf_counter()
        function()
        spans.append((started, time.perf_counter()))

    workers = [threading.Thread(target=work, args=(function,)) for function in functions]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def measure(threads, dtypes, isa):
    """All of the above: a dict for the results file.

    Returns
    -------
    dict
        `fma`: {threads: {dtype: GF/s}}; `source`: where that comes from; `copy`: {threads: {bytes: GB/s}}.
    """
    fma, copy, source = {}, {}, ""
    for n in threads:
        fma[n] = {}
        for dtype in dtypes:
            fma[n][dtype], source = multiply_add_peak(dtype, n, isa)
        copy[n] = {size: copy_rate(size, n) for size in COPY_SIZES}
    return {"fma": fma, "source": source, "copy": copy}


def copy_rate_for(peaks, threads, num_bytes):
    """The measured copy rate of the size nearest to `num_bytes`; None for what is too small to compare."""
    if num_bytes < COPY_SIZES[0] / 2:
        return None
    nearest = min(COPY_SIZES, key=lambda size: max(size / num_bytes, num_bytes / size))
    return peaks["copy"][threads][nearest]


def describe(peaks):
    """Lines of text."""
    lines = []
    for n, rates in peaks["fma"].items():
        fma = ", ".join(f"{dtype} {rate:.0f} GF/s" for dtype, rate in rates.items())
        copies = ", ".join(f"{size >> 20} MiB {rate:.0f}" for size, rate in peaks["copy"][n].items())
        lines.append(f"{n} thread{'s' if n > 1 else ''}: {fma}; copy GB/s: {copies}")
    return [*lines, f"peak from: {peaks['source']}"]

"""
Look for calls and files that crash, or fail with an error that nobody promised.

    python tests/fuzz/fuzz.py --seconds 60                  every target in turn
    python tests/fuzz/fuzz.py layers --seconds 600          one of them
    python tests/fuzz/fuzz.py layers --replay FILE ...      inputs found before
    python tests/fuzz/fuzz.py --corpus                      all that are kept

Where atheris is installed (`pip install atheris`) it guides the search by the lines reached, else inputs are
random and mutations of earlier ones. Each target runs in a process of its own, whose last input is kept: a
crash leaves it, and the command ends with an error. With a module built by `make asan` on PYTHONPATH, reads
and writes out of bounds are crashes as well. What was found and mended belongs into tests/fuzz/corpus/, in
the folder of its target, beside small sound files and what atheris made of them.
"""

import argparse
import math
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
CORPUS = Path(__file__).with_name("corpus")
MEMORY = 4 << 30  # of a process: a result of that size is a MemoryError


def targets():
    import calls
    import files
    import http_requests
    import networks
    import onnx_files
    import programs
    import readers

    return {
        "bindings": calls.bindings,
        "layers": calls.layers,
        "program": programs.program,
        "checkpoint": files.checkpoint,
        "checkpoint_entries": files.checkpoint_entries,
        "cifar_batch": files.cifar_batch,
        "cifar_opcodes": files.cifar_opcodes,
        "archive": files.archive,
        "predictor": networks.predictor,
        "predictor_header": networks.predictor_header,
        "weights": networks.weights,
        "weights_header": networks.weights_header,
        "onnx": onnx_files.network,
        "onnx_fields": onnx_files.network_fields,
        "image": readers.image,
        "config": readers.config,
        "config_fields": readers.config_fields,
        "run": readers.run,
        "arrays": readers.arrays,
        "array_header": readers.array_header,
        "table": readers.table,
        "file": readers.file,
        "request": http_requests.request,
    }


def kept(name):
    """Return the paths of the inputs of a target in the corpus."""
    return sorted((CORPUS / name).glob("*"))


def seeds(name):
    """Return the inputs that a search begins with: whole files as they are written today, and the corpus."""
    import files
    import http_requests
    import networks
    import onnx_files
    import readers

    makers = {
        "checkpoint": lambda: files.corpus()["checkpoint"],
        "cifar_batch": lambda: files.corpus()["cifar_batch"],
        "predictor": networks.predictor_files,
        "weights": lambda: [networks.safetensors_file()],
        "onnx": onnx_files.models,
        "request": http_requests.seeds,
        **dict.fromkeys(("image", "config", "arrays", "table", "file"), lambda: readers.seeds()[name]),
    }
    whole = makers[name]() if name in makers else []
    return [*whole, *(path.read_bytes() for path in kept(name))]


def mutated(data, rng):
    """A few bytes changed, inserted, removed or doubled."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        place, kind = rng.randrange(len(data) + 1), rng.randrange(4)
        if kind == 0 and place < len(data):
            data[place] = rng.choice([rng.randrange(256), data[place] ^ 1 << rng.randrange(8), 0, 255])
        elif kind == 1:
            data[place:place] = rng.randbytes(rng.choice([1, 2, 8]))
        elif kind == 2:
            del data[place : place + rng.choice([1, 2, 8])]
        elif kind == 3:
            data[place:place] = data[place : place + rng.choice([2, 8, 32])]
    return bytes(data)


def inputs(name, seed):
    """Without end: random bytes, and mutations of the seeds and of what came before."""
    rng, pool = random.Random(seed), seeds(name)
    while True:
        fresh = not pool or rng.random() < 0.5
        data = rng.randbytes(rng.choice([4, 16, 64, 256])) if fresh else mutated(rng.choice(pool), rng)
        yield data
        if rng.random() < 0.02:
            pool.append(data)


def run_random(name, target, seconds, runs, seed, last):
    """Until the time is over, or that many inputs; returns their number."""
    end, count = time.monotonic() + seconds, 0
    for data in inputs(name, seed):
        if count >= runs or time.monotonic() > end:
            return count
        if last is not None:
            last.write_bytes(data)
        target(data)
        count += 1
    return count


def run_guided(name, target, seconds, last):
    import atheris

    corpus = last.with_suffix(".corpus")
    corpus.mkdir(exist_ok=True)
    for i, data in enumerate(seeds(name)):
        Path(corpus, f"seed-{i}").write_bytes(data)
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={seconds}",
            f"-artifact_prefix={last}-",
            "-rss_limit_mb=0",
        ],
        atheris.instrument_func(target),
    )
    atheris.Fuzz()  # ends the process


def search(options):
    """Each target in a process of its own; returns whether none failed."""
    sound = True
    options.keep.mkdir(parents=True, exist_ok=True)
    for name in options.target or targets():
        last = options.keep / name
        command = [sys.executable, __file__, name, "--seconds", str(options.seconds), "--last", str(last)]
        command += ["--random"] if options.random else []
        begin = time.monotonic()
        status = subprocess.run(command).returncode
        print(f"{name}: {time.monotonic() - begin:.0f} s, {'sound' if status == 0 else f'FAILED ({status})'}")
        sound = sound and status == 0
    return sound


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="*")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder of the failing inputs")
    parser.add_argument("--random", action="store_true", help="without atheris")
    parser.add_argument(
        "--inputs", type=int, help="so many for each target, the same every time, and the seeds"
    )
    parser.add_argument("--corpus", action="store_true", help="run each input of the corpus once")
    parser.add_argument("--replay", type=Path, nargs="+", help="inputs to run once")
    parser.add_argument("--last", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay:
        for path in options.replay:
            targets()[options.target[0]](path.read_bytes())
        return
    if options.corpus:
        for name in options.target or targets():
            for path in kept(name):
                print(path.relative_to(CORPUS), flush=True)  # in case it takes the process along
                targets()[name](path.read_bytes())
        return
    if options.inputs:
        for name in options.target or targets():
            for data in seeds(name):
                targets()[name](data)
            print(f"{name}: {run_random(name, targets()[name], math.inf, options.inputs, 0, None)} inputs")
        return
    if options.last is None:
        sys.exit(0 if search(options) else 1)
    (name,) = options.target
    try:
        if options.random:
            raise ImportError
        import atheris
    except ImportError:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        seed = time.time_ns()
        print(
            f"{name}: {run_random(name, targets()[name], options.seconds, 2**63, seed, options.last)} inputs"
        )
        return
    with atheris.instrument_imports(include=["cnnlib", "pickle", "zipfile", "tarfile"]):
        import cnnlib  # noqa: F401
    run_guided(name, targets()[name], options.seconds, options.last)


if __name__ == "__main__":
    main()

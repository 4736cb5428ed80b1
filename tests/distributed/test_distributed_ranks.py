"""Training in several ranks, started by a real mpiexec: the same results as in one process."""

import ast
import json
import re
import sys

import numpy as np
import pytest
from cnnlib.distributed import SerialComm
from cnnlib.solver import Solver
from helpers import WITHOUT_PICTURES, lines
from image_folders import write_folder
from mpi import mpiexec, needs_mpi, program, said, succeeded
from mpi_program import CASES, result_of, train_case
from training import LinearModel, assert_same_bits, digits_like

pytestmark = needs_mpi
TINY = ("--num-filters", "2", "--hidden-dim", "4", "--batch-size", "400")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each case came to: without MPI under 0, else under the number of ranks."""
    found = {(name, 0): result_of(train_case(name, SerialComm())) for name in CASES}
    folder = tmp_path_factory.mktemp("parity")
    succeeded(program(3, "parity", folder))
    for name in CASES:
        for ranks in (1, 2, 3):
            with np.load(folder / f"{name}-{ranks}.npz") as file:
                found[name, ranks] = dict(file)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_rank_is_the_run_without_mpi(name, results):
    assert_same_bits(results[name, 1], results[name, 0])


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("local", "noisy", "exact", "exact-noisy")]
)
def test_several_ranks_agree_with_one_process(name, ranks, results):
    tolerance = 2e-5 if name == "float32" else 1e-12
    got, want = results[name, ranks], results[name, 0]
    assert got.keys() == want.keys()
    for key, value in want.items():
        np.testing.assert_allclose(got[key], value, rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", ["exact", "exact-noisy"])
def test_micro_batches_give_the_same_bits(name, ranks, results):
    assert_same_bits(results[name, ranks], results[name, 0])


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """The folder of a job that does one thing after the other."""
    folder = tmp_path_factory.mktemp("two")
    succeeded(program(2, "stops_early,order,pages", folder))
    return folder


@pytest.mark.slow
def test_ranks_stop_early_together(results, two_ranks):
    """Where one process does, and where rank 0 does if they disagree."""
    losses = results["stopped", 0]["val_loss_history"]
    epochs = len(losses) - 1
    assert epochs < 30
    assert np.argmin(losses[1:]) + 1 == epochs - 2
    ended = "".join(f"rank {rank} ended after epoch {epochs}\n" for rank in range(2))
    assert said(two_ranks / "stops_early") == ended


def test_local_statistics_are_those_of_a_share(results):
    """So they depend on the number of ranks, unlike global ones."""
    for ranks in (2, 3):
        difference = results["local", ranks]["loss_history"] - results["local", 0]["loss_history"]
        assert 1e-4 < abs(difference[0]) < 1


def test_each_rank_reads_its_share_of_the_same_minibatches(two_ranks):
    """From a memory map, two epochs of 61 samples."""
    model = LinearModel(36, 4)
    Solver(model, digits_like(61), batch_size=16, num_epochs=2, seed=1, verbose=False).train()
    with np.load(two_ranks / "order" / "order-2.npz") as file:
        assert len(file.files) == len(model.seen) == 8
        for name, want in zip(file.files, model.seen, strict=True):
            np.testing.assert_array_equal(file[name], want)
    reads = re.findall(r"read (\d+) samples, (\d+) at a time", said(two_ranks / "order"))
    assert len(reads) == 2
    assert sum(int(samples) for samples, _ in reads) == 2 * 61
    assert {int(most) for _, most in reads} == {16 // 2}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_rank_does_not_hold_the_others_images(two_ranks):
    """Of 192 images in mapped files; the checks at the start look at 4, the accuracy at one more.

    An image may take a quarter more, at its edges. Of the minibatches (in float32) some are held at a time,
    and not the 192 images that the whole set would be.
    """
    found = re.findall(r"([\d.]+) of 192 images mapped, (-?[\d.]+) elsewhere", said(two_ranks / "pages"))
    assert len(found) == 2
    for mapped, elsewhere in found:
        assert 192 / 2 <= float(mapped) <= 1.25 * (192 / 2 + 5)
        assert float(elsewhere) < 96


@pytest.mark.slow
def test_rank_0_decides_shows_and_writes(tmp_path):
    out = succeeded(program(3, "ends_early", tmp_path))
    assert said(tmp_path) == "".join(f"rank {rank} ended after epoch 2\n" for rank in range(3))
    assert out.count("(Epoch 0 / 3)") == out.count("(Epoch 2 / 3)") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank-0_epoch_1.npz", "rank-0_epoch_2.npz"]


@pytest.mark.slow
def test_communicators_of_mpi4py(tmp_path):
    succeeded(program(4, "raw", tmp_path))
    out = said(tmp_path)
    assert out.count(": 4 ranks") == out.count(": 2 ranks") == 4


class TestCommand:
    @pytest.mark.slow
    def test_a_run_that_goes_on_with_other_numbers_of_ranks(self, tmp_path, capsys, without_pictures):
        run = tmp_path / "run"
        train = (*WITHOUT_PICTURES, "train", "--distributed")
        common = ("--num-epochs", "1", "--micro-batches", "4", *TINY)
        out = succeeded(mpiexec(2, *train, "--out", run, *common))
        assert "2 ranks with 1 threads each" in out
        assert out.count("test_accuracy") == 1
        out = succeeded(mpiexec(3, *train, "--resume", run, "--num-epochs", "2"))
        assert "going on after epoch 1 of 2" in out
        out = "\n".join(lines(capsys, "train", "--resume", run, "--num-epochs", 3))
        assert "going on after epoch 2 of 3" in out
        whole = tmp_path / "whole"
        lines(capsys, "train", "--out", whole, *common, "--num-epochs", 3)
        with (
            np.load(run / "checkpoint_epoch_3.npz") as got,
            np.load(whole / "checkpoint_epoch_3.npz") as want,
        ):
            for name in ("W1", "W2", "W3", "gamma1"):
                assert_same_bits(got[name], want[name])
        assert (run / "history.csv").read_text().count("\n") == 4

    @pytest.mark.slow
    def test_a_folder_of_images(self, tmp_path):
        """Rank 0 alone reports, and writes logs and settings; each can be gone on from."""
        pytest.importorskip("PIL")
        photos, run, config = tmp_path / "photos", tmp_path / "run", tmp_path / "run.toml"
        write_folder(photos, {"cat": 30, "dog": 30})
        train = (*WITHOUT_PICTURES, "train")
        how = (
            *TINY,
            "--batch-size",
            "16",
            "--num-epochs",
            "2",
            "--model",
            "three-layer",
            "--image-size",
            "8",
        )
        files = ("--log", "csv,jsonl", "--save-config", config, "--early-stopping", "5")
        data = ("--data", f"folder:{photos}")
        first = ("-m", "cnnlib", "train", "--distributed")
        out = succeeded(mpiexec(2, *first, *data, "--out", run, *how, *files))
        assert out.count("photos: 48 training, 6 validation, 6 test images of 3x8x8 in 2 classes") == 1
        assert "2 ranks with 1 threads each" in out
        assert (run / "log.csv").read_text().count("\n") == 1 + 3 + 2 * 3  # a header, epochs, iterations
        assert (run / "log.jsonl").read_text().count("\n") == 3 + 2 * 3
        assert len(list(photos.with_name("photos.cnnlib-cache").glob("[!.]*"))) == 1
        assert "distributed = true" in config.read_text()
        written = json.loads((run / "config.json").read_text())
        assert (written["ranks"], written["training"]["early_stopping"]) == (2, {"patience": 5})
        again, second = tmp_path / "again", tmp_path / "2.toml"
        succeeded(mpiexec(2, *train, "--config", config, "--out", again, "--save-config", second))
        assert (again / "history.csv").read_text().count("\n") == 3
        assert second.read_text() == config.read_text()
        more = ("--resume", run, "--num-epochs", "3", "--log", "csv", "--early-stopping", "none")
        succeeded(mpiexec(2, *train, "--distributed", *more))
        training = json.loads((run / "config.json").read_text())["training"]
        assert (training["num_epochs"], training["early_stopping"]) == (3, None)
        assert (run / "log.csv").read_text().count("\n") == 1 + 4 + 3 * 3

    def test_threads_are_shared_by_the_ranks(self, tmp_path):
        code = (
            "import os, cnnlib; from cnnlib.distributed import world; "
            "cpus = sorted(os.sched_getaffinity(0)); before = cnnlib.get_num_threads(); comm = world(); "
            "rows = comm.allgather((before, cnnlib.get_num_threads(), cpus)); "
            "print(rows if comm.rank == 0 else '')"
        )
        rows = ast.literal_eval(succeeded(mpiexec(3, "-c", code, OMP_NUM_THREADS=None)).strip())
        cores = len({cpu for *_, cpus in rows for cpu in cpus})
        assert len(rows) == 3
        assert all(1 <= after <= before for before, after, _ in rows)
        assert sum(after for _, after, _ in rows) <= max(3, cores)

"""The parts of cnnlib.distributed, in one process."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from cnnlib.augment import build_augmentation
from cnnlib.distributed import OutOfStepError, SerialComm
from cnnlib.distributed.batchnorm import synchronized
from cnnlib.distributed.communicator import fair_share
from cnnlib.distributed.sharding import (
    FlatBuffer,
    ShareOfDraws,
    next_number,
    own_stream,
    pieces_of,
    rows_of,
    split,
)
from cnnlib.distributed.start_checks import data_facts, refuse_different
from cnnlib.models import ConvNet, FullyConnectedNet, GraphNet
from cnnlib.solver import Solver
from training import LinearModel, assert_same_bits, digits_like, quiet_solver, trained


class TestSharing:
    @pytest.mark.parametrize(("total", "parts"), [(16, 4), (17, 4), (3, 3), (61, 7)])
    def test_split(self, total, parts):
        runs = split(total, parts)
        sizes = [run.stop - run.start for run in runs]
        assert sizes == [len(part) for part in np.array_split(np.arange(total), parts)]
        assert runs[0].start == 0
        assert all(run.stop == following.start for run, following in itertools.pairwise(runs))

    @pytest.mark.parametrize("micro_batches", [None, 4, 9, 50])
    @pytest.mark.parametrize("size", [1, 2, 3, 4])
    def test_pieces_of_all_ranks_make_up_the_minibatch(self, size, micro_batches):
        pieces = [pieces_of(22, rank, size, micro_batches) for rank in range(size)]
        rows = np.concatenate([np.arange(22)[rows_of(own)] for own in pieces])
        np.testing.assert_array_equal(rows, np.arange(22))
        alone = pieces_of(22, 0, 1, micro_batches)
        if micro_batches is not None:  # the cuts do not depend on the number of ranks
            assert list(itertools.chain(*pieces)) == alone

    def test_a_share_of_draws_is_a_part_of_all_of_them(self):
        rows = slice(3, 7)
        draws = [
            lambda rng, N: rng.random(N),
            lambda rng, N: rng.integers(9, size=(2, N)).T,
            lambda rng, N: rng.integers(3, 9, N),
            lambda rng, N: rng.standard_normal((N, 2, 3)),
            lambda rng, N: rng.normal(1, 2, size=N),
            lambda rng, N: rng.choice(5, N, False) if N < 5 else rng.choice(50, N, False),
        ]
        for draw in draws[:-1]:
            whole = draw(np.random.default_rng([1, 2]), 11)
            np.testing.assert_array_equal(draw(ShareOfDraws([1, 2], 11, rows), 4), whole[rows])
        share, whole = ShareOfDraws([1, 2], 11, rows), np.random.default_rng([1, 2])
        assert share.random() == whole.random()
        np.testing.assert_array_equal(share.choice(50, 4, False), whole.choice(50, 11, False)[rows])

    @pytest.mark.parametrize("augment", ["flip", "crop", "cutout"])
    def test_images_are_augmented_alike_in_any_share(self, augment):
        X = np.random.default_rng(0).standard_normal((10, 2, 6, 6))
        augmentation = build_augmentation(augment)
        whole = augmentation(X, np.random.default_rng([3, 4]))
        for rows in (slice(0, 2), slice(2, 6), slice(6, 10)):
            part = augmentation(X[rows], ShareOfDraws([3, 4], 10, rows))
            np.testing.assert_array_equal(part, whole[rows])


def test_flat_buffer_holds_weighted_rows_and_adds_them_up():
    buffer = FlatBuffer({"W": (2, 3), "b": (3,), "loss": ()}, np.float32, rows=3)
    values = [{"W": np.full((2, 3), k), "b": np.arange(3.0), "loss": float(k)} for k in (1, 2, 4)]
    for row, value in enumerate(values):
        buffer.put(row, value, 0.5)
    assert np.shares_memory(buffer.views[1]["b"], buffer.data)
    total = buffer.add_up(2)
    np.testing.assert_array_equal(total["W"], np.full((2, 3), 1.5, np.float32))
    np.testing.assert_array_equal(total["b"], [0, 1, 2])
    assert total["loss"] == 1.5
    np.testing.assert_array_equal(buffer.data[0], [1.5] * 6 + [0, 1, 2, 1.5])


@pytest.mark.parametrize(
    ("affinities", "own", "limit", "want"),
    [
        ([{0, 1, 2, 3}] * 2, 0, 4, 2),
        ([{0, 1}] * 4, 3, 2, 1),
        ([{0}, {1}], 0, 1, 1),
        ([{0, 1}, {2, 3}], 1, 2, 2),
        ([{*range(16)}] * 3, 0, 16, 5),
        ([{*range(16)}] * 2, 0, 4, 2),
    ],
    ids=["shared", "more ranks than cores", "bound", "bound to two", "odd", "quota"],
)
def test_cores_are_shared(affinities, own, limit, want):
    assert fair_share(affinities, own, limit) == want


class TestStartChecks:
    class Ranks(SerialComm):
        def __init__(self, *facts):
            self.facts = facts

        def allgather(self, value):
            return [value, *self.facts]

    def test_equal_facts_pass(self):
        refuse_different("f", self.Ranks({"a": 1}, {"a": 1}), {"a": 1})

    def test_what_differs_or_is_missing_is_named(self):
        with pytest.raises(OutOfStepError, match=r"f: rank 2 is out of step with rank 0: a is 3 there, 1 on"):
            refuse_different("f", self.Ranks({"a": 1}, {"a": 3}), {"a": 1})
        with pytest.raises(OutOfStepError, match="b is 'missing' there, 2 on rank 0"):
            refuse_different("f", self.Ranks({"a": 1}), {"a": 1, "b": 2})

    def test_checksums_see_any_label_and_some_of_many_images(self):
        y, X = np.zeros(5000, np.int64), np.zeros((5000, 1, 2, 2), np.float32)
        facts = data_facts({"X": X, "y": y})
        y[4321] = 1
        assert data_facts({"X": X, "y": y})["y's checksum"] != facts["y's checksum"]
        X += 1
        assert data_facts({"X": X, "y": y})["X's checksum"] != facts["X's checksum"]
        assert data_facts({"X": X[:, :, ::-1], "y": y[::2]})["y's shape"] == (2500,)


class TestStreams:
    @pytest.mark.parametrize("stream", [np.random, np.random.RandomState(3), np.random.default_rng(3)])
    def test_the_next_number_is_not_taken(self, stream):
        draw = stream.integers if isinstance(stream, np.random.Generator) else stream.randint
        assert next_number(stream) == next_number(stream) == draw(2**31)

    @pytest.mark.parametrize("rng", [None, np.random.RandomState(3), np.random.default_rng(3)])
    def test_a_model_draws_from_a_stream_of_its_own(self, rng):
        model = LinearModel(2, 2)
        model.rng = rng
        before = np.random.get_state(legacy=False)
        draws = []
        for seed in ([1, 0], [1, 1], [1, 0]):
            with own_stream(model, seed):
                draws.append((np.random.rand(), model.rng.random()))
                kind = np.random.RandomState if rng is None else type(rng)
                assert type(model.rng) is kind
        assert draws[0] == draws[2] != draws[1]
        assert model.rng is rng
        assert_same_bits(np.random.get_state(legacy=False), before)


class TestMicroBatches:
    def test_they_are_the_whole_minibatch_to_rounding(self):
        runs = []
        for micro_batches in (None, 1, 3, 100):
            model = FullyConnectedNet((8,), input_dim=36, num_classes=4, reg=0.1, dtype=np.float64, seed=0)
            solver = trained(model, digits_like(61), seed=1, micro_batches=micro_batches, augment="flip")
            runs.append((solver.loss_history, model.params["W1"], solver.val_acc_history))
        for losses, weights, accuracies in runs[1:]:
            np.testing.assert_allclose(losses, runs[0][0], rtol=1e-12)
            np.testing.assert_allclose(weights, runs[0][1], rtol=1e-12, atol=1e-14)
            assert accuracies == runs[0][2]

    @pytest.mark.parametrize("sampling", ["epoch", "replacement"])
    def test_no_more_parts_than_samples(self, sampling):
        """A billion parts of 16 samples asked for the memory of a billion gradients."""
        runs = []
        for micro_batches in (16, 10**9):
            model = FullyConnectedNet((8,), input_dim=36, num_classes=4, dropout=0.5, seed=0)
            settings = {"seed": 1, "sampling": sampling, "micro_batches": micro_batches}
            solver = trained(model, digits_like(61), **settings)
            runs.append((solver.loss_history, model.params))
            assert solver._worker._buffer.data.nbytes < 3 * sum(w.nbytes for w in model.params.values())
        assert_same_bits(*runs)

    def test_a_parameter_may_be_called_loss(self):
        """Its gradient took the place of the loss."""

        class Renamed(LinearModel):
            def __init__(self):
                super().__init__(36, 4)
                self.params = {"loss": self.params["weights"]}

            def loss(self, X, y=None):
                plain = LinearModel(36, 4)
                plain.params["weights"] = self.params["loss"]
                result = plain.loss(X, y)
                return result if y is None else (result[0], {"loss": result[1]["weights"]})

        runs = []
        for model in (LinearModel(36, 4), Renamed()):
            solver = trained(model, digits_like(61), seed=1, micro_batches=3)
            runs.append((solver.loss_history, list(model.params.values())))
        assert_same_bits(*runs)
        assert all(type(loss) is float for loss in solver.loss_history)

    def test_running_statistics_are_the_mean_of_the_parts(self):
        """A norm of the images themselves: the mean of equal parts' means is the mean of all."""
        data = digits_like(40)
        model = ConvNet(["batchnorm"], (1, 6, 6), 4, dtype=np.float64, seed=0)
        settings = {"batch_size": 40, "num_epochs": 1, "sampling": "epoch", "seed": 0}
        quiet_solver(model, data, micro_batches=4, **settings).train()
        order = np.random.RandomState(0)
        order.permutation(40)
        X = data["X_train"].astype(np.float64)
        np.testing.assert_allclose(model.bn_params[0]["running_mean"], 0.1 * X.mean(), rtol=1e-12)
        assert 0.9 < model.bn_params[0]["running_var"][0] < 0.9 + 0.1 * X.var()

    def test_a_resumed_run_keeps_them(self, tmp_path):
        def build():
            return ConvNet([{"conv": 2}, "batchnorm", "relu", {"dropout": 0.5}], (1, 6, 6), 4)

        settings = {"seed": 1, "num_epochs": 3, "micro_batches": 3}
        np.random.seed(0)
        whole = trained(build(), digits_like(), checkpoint_name=tmp_path / "run", **settings)
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", build(), digits_like())
        resumed.train()
        assert resumed.options.micro_batches == 3
        assert_same_bits(resumed.last_params, whole.last_params)


def assert_same_step(got, want):
    """The losses, and the gradients by their names."""
    (got_loss, got), (loss, grads) = got, want
    assert got_loss == pytest.approx(loss, rel=1e-13)
    assert got.keys() == grads.keys()
    for name, value in grads.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-10, atol=1e-13, err_msg=name)


class TestSynchronizedNorm:
    SPEC = (
        {"conv": 4},
        "batchnorm",
        "relu",
        {"max_pool": 2},
        {"residual": [{"conv": 6, "stride": 2}, "batchnorm", "relu", {"conv": 6}, "batchnorm"]},
        "relu",
        {"affine": 5},
        {"batchnorm": None, "scale": False},
        "relu",
    )

    def test_alone_it_is_the_models_own(self, rng):
        X, y = rng.standard_normal((6, 1, 8, 8)), rng.integers(4, size=6)
        nets = [ConvNet(list(self.SPEC), (1, 8, 8), 4, dtype=np.float64, seed=0, reg=0.1) for _ in range(2)]
        want = nets[0].loss(X, y)
        with synchronized(nets[1], SerialComm()):
            got, scores = nets[1].loss(X, y), nets[1].loss(X)
        assert_same_step(got, want)
        np.testing.assert_allclose(scores, nets[0].loss(X), rtol=1e-12)
        assert_same_bits(nets[1].loss(X, y)[1].keys(), nets[0].loss(X, y)[1].keys())  # put back

    @pytest.mark.parametrize("frozen", [("gamma2", "beta2"), ("gamma2",), ("W1", "gamma*", "beta*")])
    def test_frozen_ones_rest(self, frozen, rng):
        """Also behind layers that are trained, whose gradients go through them."""
        X, y = rng.standard_normal((6, 1, 8, 8)), rng.integers(4, size=6)
        nets = [ConvNet(list(self.SPEC), (1, 8, 8), 4, dtype=np.float64, seed=0) for _ in range(2)]
        for net in nets:
            net.freeze(*frozen)
        want = nets[0].loss(X, y)
        with synchronized(nets[1], SerialComm()):
            assert_same_step(nets[1].loss(X, y), want)

    def test_any_graph(self, rng):
        X, y = rng.standard_normal((6, 1, 8, 8)), rng.integers(4, size=6)
        net = ConvNet(list(self.SPEC), (1, 8, 8), 4, dtype=np.float64, seed=0)
        want = net.loss(X, y)
        twin = GraphNet(net.graph(), net.params, (1, 8, 8), frozen=net.frozen, dtype=np.float64)
        with synchronized(twin, SerialComm()):
            assert_same_step(twin.loss(X, y), want)

    def test_far_from_zero(self, rng):
        X, y = rng.standard_normal((8, 1, 8, 8), dtype=np.float32), rng.integers(4, size=8)
        net = ConvNet([{"conv": 4}, "relu", "batchnorm", "relu"], (1, 8, 8), 4, seed=0)
        net.params["b1"][:] = 1e5  # of which float32 has steps of 0.008
        _, want = net.loss(X, y)
        with synchronized(net, SerialComm()):
            _, got = net.loss(X, y)
        np.testing.assert_allclose(got["W1"], want["W1"], rtol=1e-5, atol=1e-7)

    def test_other_models_are_refused(self):
        model = LinearModel(36, 4)
        model.bn_params = [{"mode": "train"}]
        with pytest.raises(
            ValueError, match=r"needs a model of cnnlib; the batch norms of a LinearModel are its own"
        ):
            quiet_solver(model, digits_like(), batchnorm_statistics="global")

    def test_micro_batches_have_statistics_of_their_own(self):
        with pytest.raises(ValueError, match="micro_batches and batchnorm_statistics='global' exclude"):
            quiet_solver(LinearModel(36, 4), digits_like(), batchnorm_statistics="global", micro_batches=2)


def test_what_a_communicator_is():
    with pytest.raises(TypeError, match="comm must be None, an mpi4py communicator, SerialComm or MPIComm"):
        quiet_solver(LinearModel(36, 4), digits_like(), comm=3)
    solver = quiet_solver(LinearModel(36, 4), digits_like(), comm=SerialComm())
    assert (solver.options.comm.rank, solver.options.comm.size) == (0, 1)


def test_without_mpi4py_the_extra_is_named():
    code = (
        "import sys; sys.modules['mpi4py'] = None; from cnnlib.cli.main import main; "
        "sys.exit(main(['train', '--distributed']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 2
    assert "cnnlib.distributed needs mpi4py and an MPI library: pip install 'cnnlib[mpi]'" in result.stderr

"""Where samples come from: arrays on the disk, sequences, iterables and functions of the epoch."""

import os
import signal
import threading

import numpy as np
import pytest
from cnnlib.data import Normalization
from cnnlib.data.rows import Rows, as_rows
from cnnlib.models import FullyConnectedNet
from cnnlib.solver import Solver, load_weights
from training import LinearModel, assert_same_bits, assert_same_run, digits_like, quiet_solver, trained


def net(**options):
    return FullyConnectedNet((8,), input_dim=(1, 6, 6), num_classes=4, use_batchnorm=True, seed=0, **options)


class OnDisk:
    """An array with h5py's rules: a slice, or ascending integers without repetition, and no more."""

    def __init__(self, array, most=10**9):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, most
        self.read = []

    def __len__(self):
        return len(self.array)

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole array was read")

    def __getitem__(self, rows):
        if not isinstance(rows, slice):
            assert (np.diff(rows) > 0).all(), "h5py: indexing elements must be in increasing order"
        part = self.array[rows]
        assert len(part) <= self.most
        self.read.append(len(part))
        return part


class Batches:
    """A sequence of batches, as Keras has them."""

    def __init__(self, X, y, size=7, weights=None):
        self.parts = [slice(start, start + size) for start in range(0, len(X), size)]
        self.arrays = (X, y) if weights is None else (X, y, weights)

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, number):
        return tuple(array[self.parts[number]] for array in self.arrays)


class Loader:
    """An iterable without a length."""

    def __init__(self, batches):
        self.batches, self.begun = batches, 0

    def __iter__(self):
        self.begun += 1
        return (self.batches[number] for number in range(len(self.batches)))


def batches(part="train", size=7):
    data = digits_like()
    return Batches(data[f"X_{part}"], data[f"y_{part}"], size)


def of_epoch(epoch):
    data = digits_like()
    order = np.random.default_rng(epoch).permutation(60)
    return ((data["X_train"][rows], data["y_train"][rows]) for rows in np.array_split(order, 5))


class TestRows:
    rows = np.arange(36).reshape(12, 3)

    @pytest.mark.parametrize(
        "index",
        [
            *(
                np.array([11, 0, 5, 5, 6]),
                np.array([3, 4, 5]),
                np.array([], int),
                np.array([[-1, 2], [2, 7]]),
            ),
            *([2, 9], slice(None), slice(2, 7), slice(9, 2), slice(1, 11, 3), slice(None, None, -1)),
            *(0, -1, np.int64(5)),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("places", [None, np.array([3, 0, 11, 7, 7, 2, 1, 9, 8, 10, 4, 5])])
    def test_are_those_of_the_array(self, index, places):
        want = self.rows if places is None else self.rows[places]
        got = Rows(OnDisk(self.rows), places)
        np.testing.assert_array_equal(got[index], want[index])
        assert (got.shape, got.ndim, got.dtype, len(got)) == ((12, 3), 2, self.rows.dtype, 12)

    @pytest.mark.parametrize("index", [12, -13, np.array([0, 12])])
    def test_that_there_are_not(self, index):
        with pytest.raises(IndexError, match="there are 12 rows, got"):
            Rows(OnDisk(self.rows))[index]

    @pytest.mark.parametrize("index", [0.5, np.ones(12, bool), "x", (3, 0)])
    def test_what_is_no_row(self, index):
        with pytest.raises(IndexError, match="by integers or a slice, got"):
            Rows(OnDisk(self.rows))[index]

    def test_of_an_array_that_gives_others(self):
        disk = OnDisk(self.rows)
        disk.shape = (12, 4)
        with pytest.raises(ValueError, match=r"of shape \(12, 4\) gave \(2, 3\) for 2 rows"):
            Rows(disk)[:2]

    def test_as_an_array_share_no_memory(self):
        array = np.asarray(Rows(self.rows))
        np.testing.assert_array_equal(array, self.rows)
        assert not np.shares_memory(array, self.rows)

    def test_arrays_in_memory_stay_arrays(self):
        assert as_rows("f", "x", self.rows) is self.rows
        assert isinstance(as_rows("f", "x", [1, 2]), np.ndarray)
        assert isinstance(as_rows("f", "x", OnDisk(self.rows)), Rows)


class TestArraysOnTheDisk:
    def test_give_the_bits_of_arrays_and_are_never_read_whole(self):
        data = digits_like(250)
        disk = {name: OnDisk(array, 100 if name[0] == "X" else 250) for name, array in data.items()}
        settings = {"num_epochs": 3, "seed": 1, "update_rule": "adam"}
        whole, streamed = trained(net(), data, **settings), trained(net(), disk, **settings)
        assert_same_run(streamed, whole)
        assert max(disk["X_train"].read) <= 100 < len(data["X_train"])

    def test_are_read_ahead_by_a_thread_with_the_same_bits(self):
        runs, threads = [], []
        for prefetch in (0, 2):
            names = set()

            class Watched(OnDisk):
                def __getitem__(self, rows, names=names):
                    names.add(threading.current_thread().name.split("_")[0])
                    return super().__getitem__(rows)

            data = digits_like()
            data["X_train"] = Watched(data["X_train"])
            runs.append(trained(net(), data, seed=1, prefetch=prefetch))
            threads.append(names)
        assert_same_run(*runs)
        assert "cnnlib-ahead" in threads[1] - threads[0]

    def test_masks_and_check_accuracy(self):
        data = digits_like()
        solver = trained(net(), data, seed=1)
        X, y = (OnDisk(data[name], 20) for name in ("X_val", "y_val"))
        assert solver.check_accuracy(X, y, batch_size=10) == solver.best_val_acc


class TestSequences:
    def test_train_each_batch_once_an_epoch_in_a_new_order(self):
        model = LinearModel(36, 4)
        trained(model, {"train": batches(), "val": batches("val")}, seed=1)
        seen = [np.concatenate(model.seen[:9]), np.concatenate(model.seen[9:])]
        want = np.sort(digits_like()["X_train"].reshape(60, -1)[:, 0])
        for epoch in seen:
            np.testing.assert_array_equal(np.sort(epoch), want)
        assert not np.array_equal(*seen)

    def test_validate_as_arrays_do(self):
        data = digits_like()
        arrays = {"X_val": data["X_val"], "y_val": data["y_val"]}
        one = trained(net(), {"train": batches(), "val": batches("val", 20)}, seed=1)
        other = trained(net(), {"train": batches(), **arrays}, seed=1)
        assert_same_run(one, other)

    @pytest.mark.parametrize("prefetch", [0, 3])
    @pytest.mark.parametrize("sampling", ["epoch", "replacement"])
    def test_a_resumed_run_has_the_same_bits(self, tmp_path, sampling, prefetch):
        data = {"train": batches(), "val": batches("val")}
        settings = {"num_epochs": 3, "seed": 1, "sampling": sampling, "augment": "alternating-flip"}
        whole = trained(net(), data, prefetch=prefetch, checkpoint_name=tmp_path / "run", **settings)
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", net(), data)
        resumed.train()
        assert_same_run(resumed, whole)

    def test_another_number_of_batches_is_refused(self, tmp_path):
        data = {"train": batches(), "val": batches("val")}
        trained(net(), data, checkpoint_name=tmp_path / "run")
        data["train"] = batches(size=20)
        with pytest.raises(ValueError, match="the run had 9 training batches, data has 3"):
            Solver.resume(tmp_path / "run_epoch_1.npz", net(), data)

    def test_an_epoch_may_be_shorter(self):
        solver = trained(net(), {"train": batches(), "val": batches("val")}, batches_per_epoch=4)
        assert (solver.iterations_per_epoch, len(solver.loss_history)) == (4, 8)

    def test_a_list_of_pairs_and_lists_within(self):
        train = [list(batches()[number]) for number in range(9)]
        one = trained(net(), {"train": train, "val": batches("val")}, seed=1)
        assert_same_run(one, trained(net(), {"train": batches(), "val": batches("val")}, seed=1))


class TestStreams:
    def test_a_function_of_the_epoch_trains_in_its_order(self):
        model = LinearModel(36, 4)
        trained(model, {"train": of_epoch, "val": batches("val")}, seed=1)
        for number, (X, _) in enumerate([*of_epoch(0), *of_epoch(1)]):
            np.testing.assert_array_equal(model.seen[number], X.reshape(len(X), -1)[:, 0])

    @pytest.mark.parametrize("prefetch", [0, 3])
    def test_a_function_of_the_epoch_resumes_to_the_same_bits(self, tmp_path, prefetch):
        data, name = {"train": of_epoch, "val": batches("val")}, tmp_path / "run"
        settings = {"num_epochs": 3, "seed": 1, "update_rule": "adam", "prefetch": prefetch}
        whole = trained(net(), data, **settings)
        solver = quiet_solver(net(), data, checkpoint_name=name, **settings)
        step = solver._step

        def interrupted(minibatch):
            if len(solver.loss_history) == 6:  # within the second epoch
                os.kill(os.getpid(), signal.SIGINT)
            step(minibatch)

        solver._step = interrupted
        with pytest.raises(KeyboardInterrupt):
            solver.train()
        resumed = Solver.resume(f"{name}_interrupted.npz", net(), data)
        resumed.train()
        assert_same_run(resumed, whole)
        solver._step = step
        solver.train()
        assert_same_run(solver, whole)

    @pytest.mark.parametrize("prefetch", [0, 2])
    def test_a_generator_that_an_exception_ended_is_opened_again(self, prefetch):
        faults = [OSError("the disk is away")]

        def batches_of(epoch):
            for number, batch in enumerate(of_epoch(epoch)):
                if epoch == 1 and number == 2 and faults:
                    raise faults.pop()
                yield batch

        settings = {"seed": 1, "prefetch": prefetch}
        whole = trained(net(), {"train": of_epoch, "val": batches("val")}, **settings)
        solver = quiet_solver(net(), {"train": batches_of, "val": batches("val")}, **settings)
        with pytest.raises(OSError, match="the disk is away"):
            solver.train()
        solver.train()
        assert_same_run(solver, whole)

    @pytest.mark.parametrize("prefetch", [0, 2])
    def test_an_iterable_goes_on_in_the_process_that_was_interrupted(self, prefetch):
        loader = Loader(batches())
        settings = {"seed": 1, "prefetch": prefetch, "num_train_samples": 7}
        whole = trained(net(), {"train": loader, "val": batches("val")}, **settings)
        solver = quiet_solver(net(), {"train": loader, "val": batches("val")}, **settings)
        step, stops = solver._step, [3, 12]

        def interrupted(minibatch):
            if stops and len(solver.loss_history) == stops[0]:
                stops.pop(0)
                raise KeyboardInterrupt
            step(minibatch)

        solver._step = interrupted
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                solver.train()
        solver.train()
        assert_same_run(solver, whole)

    def test_an_iterable_says_why_it_cannot_be_resumed(self, tmp_path):
        data = {"train": Loader(batches()), "val": batches("val")}
        solver = trained(net(), data, checkpoint_name=tmp_path / "run")
        path = tmp_path / "run_epoch_1.npz"
        model = net()
        message = "cannot go on to the same bits: train cannot go back .*lambda epoch: .*load_weights"
        with pytest.raises(ValueError, match=f"run_epoch_1.npz: the run {message}"):
            Solver.resume(path, model, data)
        assert_same_bits(model.params, net().params)
        with pytest.raises(ValueError, match=f"^load_state: the run {message}"):
            solver.load_state(solver.state())
        load_weights(path, model)

    def test_batches_are_counted_where_nobody_says_how_many(self, capsys):
        loader = Loader(batches())
        solver = Solver(net(), {"train": loader, "val": batches("val")}, num_epochs=1)
        assert "counting the batches of train; batches_per_epoch=" in capsys.readouterr().out
        assert (solver.iterations_per_epoch, loader.begun) == (9, 1)
        solver = quiet_solver(net(), {"train": loader, "val": batches("val")}, batches_per_epoch=3)
        solver.train()
        assert len(solver.loss_history) == 6

    def test_a_stream_without_end(self):
        def forever():
            while True:
                yield batches()[0]

        solver = trained(net(), {"train": forever, "val": batches("val")}, batches_per_epoch=3)
        assert len(solver.loss_history) == 6

    def test_one_that_ends_too_soon(self):
        data = {"train": lambda epoch: list(of_epoch(epoch))[: 5 - epoch], "val": batches("val")}
        with pytest.raises(ValueError, match="train ended after 4 batches in epoch 2, 5 were expected"):
            trained(net(), data)

    def test_its_length_is_asked(self):
        class Sized(Loader):
            def __len__(self):
                return 9

        loader = Sized(batches())
        assert (
            Solver(net(), {"train": loader, "val": batches("val")}, verbose=False).iterations_per_epoch == 9
        )

    def test_faulty_samples_are_named(self):
        def broken(epoch):
            for number, (X, y) in enumerate(of_epoch(epoch)):
                X = X.copy()
                if number == 2:
                    X[3] = np.nan
                yield X, y

        options = {"num_train_samples": 1}
        with pytest.raises(FloatingPointError, match=r"train: batch 2: X\[3\] holds NaN or infinity"):
            trained(net(), {"train": broken, "val": batches("val")}, **options)
        with pytest.raises(FloatingPointError, match=r"val: batch 2: X\[3\] holds NaN or infinity"):
            trained(net(), {"train": of_epoch, "val": broken}, **options)

    def test_images_are_preprocessed_and_augmented_as_arrays_are(self):
        data = digits_like()
        one = {"train": lambda epoch: [(data["X_train"], data["y_train"])], "val": batches("val", 20)}
        settings = {"preprocess": Normalization([0.5], [2.0]), "augment": "flip", "seed": 3}
        solver = trained(net(), one, **settings)
        assert solver.check_accuracy(data["X_val"], data["y_val"]) == solver.best_val_acc


class TestLoadersOfPyTorch:
    @pytest.mark.peers
    def test_a_loader_trains_and_says_why_it_cannot_be_resumed(self, tmp_path):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        utils, data = torch.utils.data, digits_like()

        def loader(part):
            arrays = (torch.from_numpy(data[f"{name}_{part}"]) for name in "Xy")
            return utils.DataLoader(utils.TensorDataset(*arrays), batch_size=20)

        parts = {"train": loader("train"), "val": loader("val")}
        solver = trained(net(), parts, seed=1, checkpoint_name=tmp_path / "run")
        lists = {part: Batches(data[f"X_{part}"], data[f"y_{part}"], 20) for part in ("train", "val")}
        same_order = {"train": lambda epoch: iter(lists["train"]), "val": lists["val"]}
        assert_same_run(solver, trained(net(), same_order, seed=1))
        with pytest.raises(ValueError, match="train cannot go back to where it stood"):
            Solver.resume(tmp_path / "run_epoch_1.npz", net(), parts)
        with pytest.raises(ValueError, match=r"is a single sample, .* a DataLoader makes them"):
            Solver(net(), {**parts, "train": parts["train"].dataset})


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"train": iter([1])}, TypeError, "train is a list_iterator, which is over after one pass: give the"),
        ({"train": (x for x in [1])}, TypeError, "train is a generator, which is over"),
        ({"train": 3}, TypeError, "train must be an iterable of batches"),
        ({"train": []}, ValueError, "train is empty: it has no batches"),
        ({"train": lambda epoch: []}, ValueError, "train is empty: it has no batches"),
        ({"train": lambda: 3}, TypeError, "the function must return an iterable"),
        ({"train": lambda a, b: 3}, TypeError, r"must be called as batches\(\) or batches\(epoch\)"),
        ({"train": np.zeros((3, 36))}, TypeError, "arrays are X_train, y_train"),
        ({"train": [np.zeros((3, 36))]}, TypeError, r"batch 0 must be \(X, y\) .* a ndarray; arrays"),
        ({"train": [{"x": 1, "y": 2}]}, TypeError, r"batch 0 must be .*where k, l = 'x', 'y'"),
        (
            {"train": [(np.zeros((3, 1, 6, 6)), np.zeros(2, int))]},
            ValueError,
            r"y must have shape \(3, ...\)",
        ),
        ({"train": [(np.zeros((1, 6, 6)), 3)]}, ValueError, "is a single sample, .* a DataLoader makes them"),
        ({"train": [(np.zeros((3, 1, 6, 6)), np.zeros(3))]}, TypeError, "must hold integer labels"),
        ({"train": [(np.zeros((3, 1, 5, 5)), np.zeros(3, int))]}, ValueError, "X_train"),
        (
            {"train": [batches()[0], (np.zeros((3, 1, 5, 6)), np.zeros(3, int))]},
            ValueError,
            "batch 1 has sam",
        ),
        ({"X_train": 1}, ValueError, "data has both train and X_train or y_train"),
        ({"val": None}, TypeError, "val must be an iterable"),
    ],
)
def test_what_is_no_source(data, error, message):
    data = {"train": batches(), "val": batches("val")} | data
    with pytest.raises(error, match=f"Solver: .*{message}"):
        trained(net(), data, num_epochs=1)


def test_batches_in_place_of_data():
    with pytest.raises(TypeError, match=r"batches are given as {'train': batches, 'val': others}"):
        Solver(net(), Loader(batches()))
    with pytest.raises(ValueError, match=r"batches_per_epoch is for data={'train': batches}"):
        Solver(net(), digits_like(), batches_per_epoch=3)
    with pytest.raises(ValueError, match="sampling='replacement' draws samples; the order of train is its"):
        Solver(net(), {"train": of_epoch, "val": batches("val")}, sampling="replacement")


class TestValidationFraction:
    def train_only(self, samples=60):
        return {name: array for name, array in digits_like(samples).items() if name.endswith("train")}

    def test_takes_the_same_share_of_each_label(self):
        solver = Solver(net(), self.train_only(), validation_fraction=0.25, seed=3)
        counts = np.bincount(self.train_only()["y_train"])
        assert (len(solver.X_val), len(solver.X_train)) == (15, 45)
        assert (abs(np.bincount(solver.y_val[:]) - counts / 4) < 1).all()
        both = np.concatenate([solver.X_train[:], solver.X_val[:]]).reshape(60, -1)[:, 0]
        np.testing.assert_array_equal(
            np.sort(both), np.sort(self.train_only()["X_train"].reshape(60, -1)[:, 0])
        )
        other = Solver(net(), self.train_only(), validation_fraction=0.25, seed=4)
        assert not np.array_equal(other.X_val[:], solver.X_val[:])

    def test_reads_no_array_whole(self):
        data = self.train_only(250)
        disk = {name: OnDisk(array, 100 if name[0] == "X" else 250) for name, array in data.items()}
        settings = {"validation_fraction": 0.25, "seed": 1}
        assert_same_run(trained(net(), disk, **settings), trained(net(), data, **settings))

    def test_a_resumed_run_has_the_same_bits(self, tmp_path):
        data = self.train_only()
        settings = {
            "validation_fraction": 0.2,
            "num_epochs": 3,
            "checkpoint_name": tmp_path / "run",
            "seed": 5,
        }
        whole = trained(net(), data, **settings)
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", net(), data)
        resumed.train()
        assert_same_run(resumed, whole)

    def test_of_a_sequence_takes_batches(self):
        model = LinearModel(36, 4)
        solver = trained(model, {"train": batches()}, validation_fraction=0.34, num_epochs=1)
        assert (solver.iterations_per_epoch, len(solver._val.numbers)) == (6, 3)
        assert not set(solver._val.numbers) & set(solver._train.numbers)

    @pytest.mark.parametrize(
        ("data", "fraction", "message"),
        [
            (digits_like(), 0.1, "for data without a validation split"),
            ({"train": of_epoch}, 0.1, "needs arrays or a sequence of batches; of a stream give 'val'"),
            ({"train": batches()}, 0.01, "of 9 batches leaves 9 to train with and 0"),
            (digits_like(), 1, "validation_fraction must be below 1"),
            (digits_like(), 0, "validation_fraction must be above 0"),
            (
                {"X_train": np.zeros((60, 1, 6, 6)), "y_train": np.zeros(50, int)},
                0.1,
                r"y_train must have shape \(60,\) as X_train has 60 samples, got \(50,\)",
            ),
            (
                {"X_train": np.zeros((60, 1, 6, 6)), "y_train": np.zeros((60, 1), int)},
                0.1,
                r"got \(60, 1\): y_train\[:, 0\]",
            ),
        ],
    )
    def test_that_cannot_be(self, data, fraction, message):
        with pytest.raises(ValueError, match=message):
            Solver(net(), data, validation_fraction=fraction)

    def test_is_what_a_message_names(self):
        with pytest.raises(ValueError, match=r"lacks X_val, y_val; it has X_train, y_train; validation_frac"):
            Solver(net(), self.train_only())


class TestWeights:
    def weighted(self, weights):
        return {**digits_like(), "weights_train": weights}

    def test_of_samples_equal_to_their_repetition(self):
        """A step with integer weights is a step with each sample repeated as often."""
        data, weights = digits_like(), np.arange(60) % 3
        repeated = {**data, **{k: np.repeat(data[k], weights, axis=0) for k in ("X_train", "y_train")}}
        settings = {"batch_size": 100, "num_epochs": 1, "keep": "last", "num_train_samples": 10, "seed": 0}
        one = trained(
            FullyConnectedNet((8,), 36, 4, seed=0, dtype=np.float64), self.flat(data, weights), **settings
        )
        other = trained(
            FullyConnectedNet((8,), 36, 4, seed=0, dtype=np.float64), self.flat(repeated), **settings
        )
        np.testing.assert_allclose(one.loss_history, other.loss_history, rtol=1e-12)
        for name, value in one.last_params.items():
            np.testing.assert_allclose(value, other.last_params[name], rtol=1e-10, atol=1e-12)

    def flat(self, data, weights=None):
        data = {k: v.reshape(len(v), -1) if k[0] == "X" else v for k, v in data.items()}
        return data if weights is None else {**data, "weights_train": weights}

    def test_micro_batches_add_up_to_the_batch(self):
        weights = np.random.default_rng(0).random(60)
        runs = [
            trained(
                FullyConnectedNet((8,), 36, 4, seed=0, dtype=np.float64),
                self.flat(digits_like(), weights),
                micro_batches=parts,
                seed=2,
            )
            for parts in (None, 4)
        ]
        np.testing.assert_allclose(runs[0].loss_history, runs[1].loss_history, rtol=1e-10)

    def test_in_batches(self):
        data = digits_like()
        weights = np.random.default_rng(1).random(60)
        train = Batches(data["X_train"], data["y_train"], 60, weights)
        settings = {"batch_size": 60, "num_epochs": 1, "num_train_samples": 5, "seed": 1}
        one = trained(net(), {"train": train, "val": batches("val", 20)}, **settings)
        other = trained(net(), self.weighted(weights), **settings)
        np.testing.assert_allclose(one.loss_history, other.loss_history, rtol=1e-5)

    @pytest.mark.parametrize(
        ("weights", "options", "message"),
        [
            (np.ones(59), {}, r"weights_train must be a number for each of the 60 samples"),
            (-np.ones(60), {}, "weights_train must be finite and at least 0"),
            (np.full(60, np.nan), {}, "weights_train must be finite"),
            (np.ones(60), {"label_smoothing": 0.1}, "weights of samples and label_smoothing exclude"),
        ],
    )
    def test_that_cannot_be(self, weights, options, message):
        with pytest.raises(ValueError, match=message):
            Solver(net(), self.weighted(weights), **options)

    def test_of_a_loss_that_has_none(self):
        with pytest.raises(ValueError, match="dice is one number for a whole batch"):
            Solver(
                FullyConnectedNet((8,), 36, 1, seed=0),
                {
                    **{f"X_{part}": np.zeros((60, 36)) for part in ("train", "val")},
                    **{f"y_{part}": np.zeros((60, 1)) for part in ("train", "val")},
                    "weights_train": np.ones(60),
                },
                loss="dice",
            )

    def test_of_classes(self):
        data = digits_like()
        counts = np.bincount(data["y_train"])
        balanced = (60 / (4 * counts)).tolist()
        runs = [
            trained(net(), data, seed=1, **options)
            for options in (
                {"class_weight": "balanced"},
                {"class_weight": balanced},
                {"class_weight": dict(enumerate(balanced))},
                {"loss": {"name": "softmax", "weights": balanced}},
            )
        ]
        for run in runs[1:]:
            assert_same_run(run, runs[0])
        plain = trained(net(), data, seed=1)
        assert plain.loss_history != runs[0].loss_history
        partial = trained(net(), data, seed=1, class_weight={1: 2.0})
        assert_same_run(partial, trained(net(), data, seed=1, class_weight=[1, 2, 1, 1]))

    @pytest.mark.parametrize("class_weight", ["balanced", {1: 2.0, 3: 0.5}, [1, 2, 3, 4]], ids=str)
    def test_of_classes_resume(self, tmp_path, class_weight):
        data, settings = digits_like(), {"class_weight": class_weight, "num_epochs": 2, "seed": 1}
        whole = trained(net(), data, checkpoint_name=tmp_path / "run", **settings)
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", net(), data)
        resumed.train()
        assert_same_run(resumed, whole)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"class_weight": "even"}, "class_weight must be 'balanced', a dict or a list, got 'even'"),
            ({"class_weight": [1, 2]}, "class_weight is of 2 classes, the network has 4"),
            ({"class_weight": {7: 2}}, "class_weight is of 8 classes, the network has 4"),
            ({"class_weight": {}}, "class_weight must have the weight of a class at least"),
            ({"class_weight": [1, 1, -1, 1]}, r"class_weight\[2\]"),
            ({"class_weight": "balanced", "loss": "svm"}, "class_weight is for the loss 'softmax'"),
            ({"class_weight": "balanced", "label_smoothing": 0.1}, "exclude each other"),
        ],
    )
    def test_of_classes_that_cannot_be(self, options, message):
        with pytest.raises(ValueError, match=message):
            Solver(net(), digits_like(), **options)

    def test_balanced_of_batches_is_refused(self):
        with pytest.raises(ValueError, match="of batches give the weights"):
            Solver(net(), {"train": batches(), "val": batches("val")}, class_weight="balanced")

    @pytest.mark.parametrize(
        ("weights", "options", "what"),
        [
            (None, {"class_weight": [1, 2, 3, 4]}, "class_weight"),
            (np.ones(60), {}, "weights of samples"),
            (np.ones(60), {"loss": "softmax"}, "weights of samples"),
        ],
    )
    def test_that_a_model_with_its_own_loss_would_not_see_are_refused(self, weights, options, what):
        message = rf"Solver: {what} must go into the Solver's loss; the model's loss\(X, y\) takes none"
        with pytest.raises(ValueError, match=message):
            Solver(LinearModel(36, 4), self.weighted(weights), **options)
        criterion = net()
        criterion.criterion = "softmax"
        with pytest.raises(ValueError, match=f"Solver: {what} must go into .* the model has a criterion"):
            Solver(criterion, self.weighted(weights), **options)

"""Data that stay on the disk: mapped CIFAR files, folders of array files, and the joined array."""

import json
import os
import pickle
import tracemalloc

import cifar_files
import numpy as np
import pytest
from cnnlib.cli.main import main
from cnnlib.data import (
    Normalization,
    ShardedArray,
    get_CIFAR10_data,
    load_array_folder,
    map_CIFAR10,
    map_CIFAR100,
)
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.solver import Solver
from helpers import lines, refused
from training import assert_same_bits

PARTS = ("train", "val", "test")


class TestShardedArray:
    rows = np.arange(36).reshape(12, 3)

    @pytest.fixture
    def joined(self):
        return ShardedArray([self.rows[:5], self.rows[5:5], self.rows[5:6], self.rows[6:]])

    @pytest.mark.parametrize(
        "index",
        [
            np.array([11, 0, 5, 5, 6, 4]),
            np.array([], dtype=np.int64),
            np.array([[-1, -12], [3, 7]], dtype=np.int32),
            [2, 9],
            slice(None),
            slice(2, 4),
            slice(4, 7),
            slice(5, 5),
            slice(9, 2),
            slice(1, 11, 3),
            slice(None, None, -1),
            0,
            -1,
            np.int64(5),
        ],
        ids=str,
    )
    def test_reads_like_the_array(self, joined, index):
        np.testing.assert_array_equal(joined[index], self.rows[index])

    def test_is_described_like_the_array(self, joined):
        assert (len(joined), joined.shape, joined.ndim, joined.dtype) == (12, (12, 3), 2, self.rows.dtype)
        np.testing.assert_array_equal(np.asarray(joined), self.rows)
        assert np.asarray(joined, dtype=np.float32).dtype == np.float32

    def test_parts_are_views(self, joined):
        for start, stop in ((0, 5), (3, 8), (5, 6), (7, 12), (4, 4)):
            part = joined.part(start, stop)
            np.testing.assert_array_equal(part[:], self.rows[start:stop])
            shards = part.shards if isinstance(part, ShardedArray) else [part]
            assert all(np.shares_memory(shard, self.rows) for shard in shards if len(shard))
        assert isinstance(joined.part(7, 12), np.ndarray)

    @pytest.mark.parametrize("index", [12, -13, np.array([0, 12]), [-13]])
    def test_rows_that_there_are_not(self, joined, index):
        with pytest.raises(IndexError, match=r"there are 12 rows, got"):
            joined[index]

    @pytest.mark.parametrize("index", [0.5, np.ones(12, dtype=bool), "x", (3, 0)])
    def test_what_is_no_row(self, joined, index):
        with pytest.raises(IndexError, match=r"by integers or a slice, got"):
            joined[index]

    @pytest.mark.parametrize(
        ("shards", "complaint"),
        [
            ([], "at least one array, got none"),
            ([rows, rows[:, :2]], r"shard 1 has shape \(12, 2\).*cannot be joined"),
            ([rows, rows.astype(np.int32)], "dtype int32, shard 0 .* cannot be joined"),
            ([np.array(1)], "shard 0 has shape"),
        ],
    )
    def test_what_cannot_be_joined(self, shards, complaint):
        with pytest.raises(ValueError, match=complaint):
            ShardedArray(shards)

    def test_check_accuracy_and_normalization(self):
        rng = np.random.default_rng(0)
        X, y = rng.random((30, 1, 4, 4)), rng.integers(0, 3, 30)
        shards = ShardedArray([X[:7], X[7:]])
        assert Normalization.fit(shards) == Normalization.fit(X)
        data = {"X_train": shards, "y_train": y, "X_val": shards, "y_val": y}
        solver = Solver(FullyConnectedNet((8,), input_dim=16, num_classes=3, seed=0), data, verbose=False)
        assert solver.check_accuracy(shards, y, batch_size=8) == solver.check_accuracy(X, y, batch_size=8)

    def test_a_solver_reads_no_more_than_it_takes(self):
        """A ConvNet may want training images to whiten; it read all of them."""
        X, y = np.zeros((40, 3, 512, 512), np.uint8), np.zeros(40, int)
        shards = ShardedArray([X[:20], X[20:]])
        data = {"X_train": shards, "y_train": y, "X_val": X[:1], "y_val": y[:1]}
        model = ConvNet([{"conv": 2}, "relu", "global_avg_pool"], (3, 512, 512), 3, seed=0)
        tracemalloc.start()
        try:
            Solver(model, data, verbose=False)
            assert tracemalloc.get_traced_memory()[1] < X.nbytes * 0.6
        finally:
            tracemalloc.stop()


class TestCifar10:
    @pytest.fixture(params=["python", "binary"])
    def folder(self, request, tmp_path):
        return cifar_files.write_layout(tmp_path, request.param)

    @pytest.mark.parametrize("counts", [(80, 20, 20), (30, 7, 5), (60, 40, 1), (0, 0, 3), (5, 0, 0)])
    def test_holds_what_is_read(self, folder, counts):
        want = get_CIFAR10_data(folder, *counts, subtract_mean=False)
        got = map_CIFAR10(folder, *counts)
        assert got.keys() == want.keys()
        for part in PARTS:
            X = got[f"X_{part}"]
            assert X.dtype == np.uint8
            np.testing.assert_array_equal(X[:], want[f"X_{part}"])
            assert_same_bits(got[f"y_{part}"], want[f"y_{part}"])

    def test_the_images_stay_in_their_files(self, folder):
        """What changes there changes here: nothing was copied."""
        data = map_CIFAR10(folder, 80, 20, 20)
        assert isinstance(data["X_train"], ShardedArray)
        assert all(isinstance(shard, np.memmap) for shard in (*data["X_train"].shards, data["X_test"]))
        before = data["X_train"][45].copy()
        path = next(folder.glob("data_batch_3*"))
        content = bytearray(path.read_bytes())
        offset = content.find(before.tobytes())
        content[offset] ^= 0xFF
        with open(path, "r+b") as file:
            file.write(content)
        assert data["X_train"][45].ravel()[0] == before.ravel()[0] ^ 0xFF

    def test_column_major_pickle(self, tmp_path):
        folder = cifar_files.write_layout(tmp_path, "python")
        pixels, labels = cifar_files.batch("data_batch_1")
        cifar_files.write_pickle(folder / "data_batch_1", pixels.T.reshape(20, 3072), labels)
        path = folder / "data_batch_1"
        path.write_bytes(path.read_bytes().replace(b"\x89T", b"\x88T", 1))  # says that columns come first
        X = map_CIFAR10(folder, 20, 0, 0)["X_train"]
        np.testing.assert_array_equal(X.reshape(20, 3072), pixels)

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_batches_pickled_anew(self, tmp_path, protocol):
        """Protocol 2 of Python 3 escapes bytes, so these are read instead of mapped."""
        folder = cifar_files.write_layout(tmp_path, "python")
        pixels, labels = cifar_files.batch("data_batch_1")
        batch = {"data": pixels, "labels": labels.tolist()}
        (folder / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=protocol))
        X = map_CIFAR10(folder, 20, 0, 0)["X_train"]
        assert isinstance(X, np.memmap) == (protocol > 2)
        np.testing.assert_array_equal(X.reshape(20, 3072), pixels)

    def test_damaged_files_are_refused(self, folder):
        path = next(folder.glob("data_batch_3*"))
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(ValueError, match=r"data_batch_3.* is not a (binary|pickled) batch"):
            map_CIFAR10(folder, 80, 20, 20)

    def test_more_images_than_there_are(self, folder):
        with pytest.raises(ValueError, match=r"map_CIFAR10: num_training \+ num_validation is 90 \+ 11"):
            map_CIFAR10(folder, 90, 11, 20)

    def test_training_gives_the_same_bits_as_from_memory(self, folder):
        def losses(data):
            model = FullyConnectedNet((8,), seed=0)
            normalize = Normalization(120.0, 60.0)
            solver = Solver(model, data, preprocess=normalize, batch_size=13, seed=1, verbose=False)
            solver.train()
            return np.array(solver.loss_history + solver.val_loss_history)

        mapped = losses(map_CIFAR10(folder, 80, 20, 20))
        assert_same_bits(mapped, losses(get_CIFAR10_data(folder, 80, 20, 20, subtract_mean=False)))


class TestCifar100:
    def test_holds_the_records(self, tmp_path, monkeypatch):
        folder, records, names = cifar_files.write_cifar100(tmp_path, monkeypatch)
        for root in (tmp_path, folder):
            data = map_CIFAR100(root, num_validation=10)
            assert data["classes"] == tuple(names)
            train, test = records["train.bin"], records["test.bin"]
            for part, rows in (("train", train[:30]), ("val", train[30:]), ("test", test)):
                assert isinstance(data[f"X_{part}"], np.memmap)
                np.testing.assert_array_equal(data[f"X_{part}"], rows[:, 2:].reshape(-1, 3, 32, 32))
                assert_same_bits(data[f"y_{part}"], rows[:, 1].astype(np.int64))

    def test_what_is_refused(self, tmp_path, monkeypatch):
        folder, *_ = cifar_files.write_cifar100(tmp_path, monkeypatch)
        with pytest.raises(ValueError, match=r"num_validation must be in 0\.\.39, got 40"):
            map_CIFAR100(folder, num_validation=40)
        with open(folder / "test.bin", "r+b") as file:
            file.seek(5 * 3074 + 1)
            file.write(b"\x64")
        with pytest.raises(ValueError, match=r"test.bin: a label is 100, expected 0\.\.99"):
            map_CIFAR100(folder, 10)
        os.truncate(folder / "test.bin", 3074)
        with pytest.raises(
            ValueError, match=r"test.bin is not a binary file of CIFAR-100: it has 3074 bytes"
        ):
            map_CIFAR100(folder, 10)
        (folder / "fine_label_names.txt").write_text("apple\n")
        with pytest.raises(ValueError, match=r"fine_label_names.txt has 1 names, expected 100"):
            map_CIFAR100(folder, 10)
        (folder / "train.bin").unlink()
        with pytest.raises(FileNotFoundError, match=r"train.bin is missing"):
            map_CIFAR100(folder)
        with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
            map_CIFAR100(tmp_path / "nowhere")


def write_arrays(folder, shards=1, test=True, dtype=np.uint8):
    """Images of three classes as array files; returns the arrays."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("val", 10), ("test", 8))[: 2 + test]:
        images = (
            rng.integers(0, 200, (count, 3, 8, 8))
            if np.dtype(dtype).kind in "ui"
            else rng.random((count, 3, 8, 8))
        )
        arrays[f"X_{part}"] = images.astype(dtype)
        arrays[f"y_{part}"] = np.arange(count, dtype=np.int32) % 3
    for name, array in arrays.items():
        if name.endswith("train") and shards > 1:
            for number, rows in enumerate(np.array_split(array, shards)):
                np.save(folder / f"{name}_{number}.npy", rows)
        else:
            np.save(folder / f"{name}.npy", array)
    return arrays


class TestArrayFolder:
    @pytest.mark.parametrize("shards", [1, 11])
    def test_holds_the_arrays(self, tmp_path, shards):
        arrays = write_arrays(tmp_path / "data", shards)
        data = load_array_folder(tmp_path / "data")
        assert data.pop("classes") == ("0", "1", "2")
        assert list(data) == [f"{array}_{part}" for part in PARTS for array in "Xy"]
        assert isinstance(data["X_train"], np.memmap if shards == 1 else ShardedArray)
        for name, want in arrays.items():
            np.testing.assert_array_equal(data[name][:], want)
            assert data[name].dtype == (np.int64 if name.startswith("y") else np.uint8)

    def test_without_a_test_split(self, tmp_path):
        write_arrays(tmp_path / "data", test=False)
        (tmp_path / "data" / "classes.txt").write_text("cat\nguide dog\nowl\n")
        data = load_array_folder(tmp_path / "data")
        assert data["X_test"].shape == (0, 3, 8, 8)
        assert data["y_test"].shape == (0,)
        assert data["classes"] == ("cat", "guide dog", "owl")

    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("X_val", None, "holds neither X_val.npy nor X_val_0.npy"),
            ("X_train_0", np.zeros(3), "holds both X_train.npy and X_train_0.npy"),
            (
                "X_val",
                np.zeros((10, 3, 8, 9), np.uint8),
                r"X_val has shape \(10, 3, 8, 9\) and dtype uint8, X_train",
            ),
            ("X_val", np.zeros((10, 3, 8, 8)), "X_val has shape .* and dtype float64, X_train"),
            ("X_val", np.zeros((9, 3, 8, 8), np.uint8), "a row for each of the 10 labels in y_val"),
            ("X_val", np.array(["a"]), "X_val.npy must be an array of numbers"),
            ("X_val", np.array([{}]), "X_val.npy is no array file, or is damaged"),
            ("y_val", np.zeros((10, 1), int), r"y_val must be integer labels \(N,\), got int64 of shape"),
            ("y_val", np.zeros(10), "y_val must be integer labels"),
            ("y_val", np.full(10, -1), r"a label is -1, expected 0\.\.2"),
            ("y_val", np.full(10, 2**40), "a label is 1099511627776; classes are counted from 0 on"),
            ("X_test", None, "neither X_test.npy nor"),
            ("classes.txt", "höhe".encode("latin-1"), "classes.txt must be text in UTF-8"),
        ],
    )
    def test_what_is_refused(self, tmp_path, name, content, complaint):
        folder = tmp_path / "data"
        write_arrays(folder)
        if content is None:
            (folder / f"{name}.npy").unlink()
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            np.save(folder / f"{name}.npy", content)
        with pytest.raises((FileNotFoundError, ValueError), match=complaint):
            load_array_folder(folder)

    def test_names_as_other_systems_write_them(self, tmp_path):
        write_arrays(tmp_path / "data")
        (tmp_path / "data" / "classes.txt").write_bytes("\ufeffcat\r\nguide dog \r\nowl\r\n\r\n".encode())
        assert load_array_folder(tmp_path / "data")["classes"] == ("cat", "guide dog", "owl")

    def test_targets_that_do_not_fit_together(self, tmp_path):
        folder = tmp_path / "data"
        write_arrays(folder)
        with pytest.raises(
            ValueError, match="task must be one of 'classes', 'values', 'pixels', got 'value'"
        ):
            load_array_folder(folder, task="value")
        np.save(folder / "y_test.npy", np.zeros((8, 2)))
        with pytest.raises(ValueError, match=r"y_test has shape \(8, 2\).*y_train \(40, 1\)"):
            load_array_folder(folder, task="values")
        for part, count in (("train", 40), ("val", 10), ("test", 8)):
            np.save(folder / f"y_{part}.npy", np.full((count, 8, 8), 3 if part == "test" else 1))
        assert load_array_folder(folder, task="pixels")["classes"] == ("0", "1", "2", "3")
        np.save(folder / "y_val.npy", np.full((10, 8, 8), -1))
        with pytest.raises(ValueError, match="a label is -1, expected 0 or above"):
            load_array_folder(folder, task="pixels")
        for part, count in (("train", 40), ("val", 10), ("test", 8)):  # white would be left out of all
            np.save(folder / f"y_{part}.npy", np.tile(np.uint8([0, 255]), (count, 8, 4)))
        with pytest.raises(ValueError, match=r"all labels are 0, or 255, .* black and white have 0 and 1"):
            load_array_folder(folder, task="pixels")

    @pytest.mark.parametrize("names", ["width", "width\nheight\ndepth"])
    def test_numbers_have_a_name_each(self, tmp_path, names):
        write_arrays(tmp_path / "data", test=False)
        for part, count in (("train", 40), ("val", 10)):
            np.save(tmp_path / "data" / f"y_{part}.npy", np.zeros((count, 2)))
        (tmp_path / "data" / "classes.txt").write_text(names)
        with pytest.raises(ValueError, match=r"classes.txt has [13] names, y needs 2"):
            load_array_folder(tmp_path / "data", task="values")

    def test_files_that_are_cut_short_or_missing(self, tmp_path):
        folder = tmp_path / "data"
        write_arrays(folder, shards=3)
        (folder / "classes.txt").write_text("cat\ndog\n")
        with pytest.raises(ValueError, match=r"a label is 2, expected 0\.\.1"):
            load_array_folder(folder)
        os.truncate(folder / "X_train_1.npy", 500)
        with pytest.raises(ValueError, match=r"X_train_1.npy is no array file, or is damaged"):
            load_array_folder(folder)
        (folder / "X_train_1.npy").unlink()
        with pytest.raises(ValueError, match=r"without a gap, got X_train_0.npy, X_train_2.npy"):
            load_array_folder(folder)
        with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
            load_array_folder(tmp_path / "nowhere")


@pytest.mark.usefixtures("without_pictures")
class TestCommand:
    TINY = ("--num-epochs", "1", "--model", "fully-connected", "--hidden-dim", "4", "--threads", "1")

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_arrays(self, tmp_path, capsys, dtype):
        run, data = tmp_path / "run", tmp_path / "birds"
        write_arrays(data, shards=2, dtype=dtype)
        assert main(["train", "--data", f"npy:{data}", "--out", str(run), *self.TINY]) == 0
        out = capsys.readouterr().out
        assert out.startswith("birds: 40 training, 10 validation, 8 test images of 3x8x8 in 3 classes")
        config = json.loads((run / "config.json").read_text())
        assert config["data"] == {"name": "npy", "folder": str(data), "size": [8, 8], "channels": 3}
        assert config["preprocessing"]["white"] == (255 if dtype == np.uint8 else 1)
        assert main(["eval", str(run)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == out.splitlines()[-1]
        assert main(["eval", str(run), "--split", "all"]) == 0
        assert "of    21" in capsys.readouterr().out  # of class 0: 14, 4 and 3
        assert main(["train", "--resume", str(run), "--num-epochs", "2"]) == 0
        scores = lines(capsys, "eval", run)
        (tmp_path / "test").mkdir()
        for file in data.glob("*_test*.npy"):
            file.rename(tmp_path / "test" / file.name)
        assert lines(capsys, "eval", run, "--data", f"npy:{tmp_path / 'test'}") == scores

    def test_a_split_of_pixels_by_itself_may_have_one_label(self, tmp_path, capsys):
        for part in ("train", "val", "test"):
            np.save(tmp_path / f"X_{part}.npy", np.zeros((2, 1, 8, 8), np.uint8))
            np.save(tmp_path / f"y_{part}.npy", np.full((2, 8, 8), int(part != "test")))
        run = tmp_path / "run"
        lines(
            capsys, "train", "--task", "pixels", "--data", f"npy:{tmp_path}", "--out", run, "--num-epochs", 1
        )
        assert lines(capsys, "eval", run)[-1].startswith("test_accuracy: ")

    def test_arrays_that_are_no_images(self, tmp_path, capsys):
        write_arrays(tmp_path / "data")
        for part, count in (("train", 40), ("val", 10), ("test", 8)):
            np.save(tmp_path / "data" / f"X_{part}.npy", np.zeros((count, 7)))
        assert "X_train must be images (N, 1 or 3, H, W), got shape (40, 7)" in refused(
            capsys, "train", "--data", f"npy:{tmp_path / 'data'}", "--out", tmp_path / "run"
        )

    def test_other_images_than_the_model_s(self, tmp_path, capsys):
        run = tmp_path / "run"
        write_arrays(tmp_path / "data")
        write_arrays(tmp_path / "other")
        for part, count in (("train", 40), ("val", 10), ("test", 8)):
            np.save(tmp_path / "other" / f"X_{part}.npy", np.zeros((count, 3, 8, 9), np.uint8))
        assert main(["train", "--data", f"npy:{tmp_path / 'data'}", "--out", str(run), *self.TINY]) == 0
        assert "has images (3, 8, 9); the model's are (3, 8, 8)" in refused(
            capsys, "eval", run, "--data", f"npy:{tmp_path / 'other'}"
        )

    def test_labels_without_names_are_the_model_s_classes(self, tmp_path, capsys):
        run, other = tmp_path / "run", tmp_path / "other"
        write_arrays(tmp_path / "data")
        (tmp_path / "data" / "classes.txt").write_text("cat\ndog\nemu\n")
        assert main(["train", "--data", f"npy:{tmp_path / 'data'}", "--out", str(run), *self.TINY]) == 0
        arrays = write_arrays(other)
        for last in (1, 3):
            for part in ("train", "val", "test"):
                y = arrays[f"y_{part}"]
                np.save(other / f"y_{part}.npy", np.where(y == 2, last, y))
            if last == 1:
                out = lines(capsys, "eval", run, "--data", f"npy:{other}")
                assert [line.split()[0] for line in out[:-1]] == ["cat", "dog", "emu"]
        message = "has the classes 0, 1, 2, 3; the model's are cat, dog, emu"
        assert message in refused(capsys, "eval", run, "--data", f"npy:{other}")

    def test_cifar100(self, tmp_path, capsys, monkeypatch):
        cifar_files.write_cifar100(tmp_path / "data", monkeypatch)
        monkeypatch.setattr(map_CIFAR100, "__defaults__", (10,))
        run = tmp_path / "run"
        assert main(["train", "--data", f"cifar100:{tmp_path / 'data'}", "--out", str(run), *self.TINY]) == 0
        out = capsys.readouterr().out
        assert out.startswith(
            "cifar100: 30 training, 10 validation, 12 test images of 3x32x32 in 100 classes"
        )
        assert main(["eval", str(run)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == out.splitlines()[-1]

"""The embedded digits, and reading CIFAR-10's files: what is right, and what must be refused."""

import os
import pickle
import subprocess
import sys

import cifar_files
import numpy as np
import pytest
from cnnlib.data import get_CIFAR10_data, load_CIFAR10, load_digits

TRAIN, TEST = cifar_files.BATCHES[:5], cifar_files.BATCHES[5]


@pytest.fixture(params=["python", "binary"])
def layout(request):
    return request.param


def images_of(*names):
    pixels, labels = zip(*map(cifar_files.batch, names), strict=True)
    return np.concatenate(pixels).reshape(-1, 3, 32, 32), np.concatenate(labels)


class TestDigits:
    def test_shapes_types_and_range(self):
        data = load_digits()
        assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]
        for part, count in (("train", 1263), ("val", 179), ("test", 355)):
            X, y = data[f"X_{part}"], data[f"y_{part}"]
            assert X.shape == (count, 1, 8, 8)
            assert X.dtype == np.float32
            assert X.min() == 0
            assert X.max() == 1
            assert y.shape == (count,)
            assert y.dtype == np.int64

    def test_every_published_image_once(self):
        datasets = pytest.importorskip(
            "sklearn.datasets", reason="scikit-learn has another copy of the digits"
        )
        published = datasets.load_digits()
        want = sorted(zip(published.target.tolist(), map(tuple, published.data.tolist()), strict=True))
        data = load_digits()
        X = np.concatenate([data["X_train"], data["X_val"], data["X_test"]]).reshape(1797, 64) * 16
        y = np.concatenate([data["y_train"], data["y_val"], data["y_test"]])
        assert sorted(zip(y.tolist(), map(tuple, X.tolist()), strict=True)) == want

    def test_split_is_stratified_disjoint_and_fixed(self):
        data = load_digits()
        for part, share in (("val", 0.1), ("test", 0.2)):
            total = np.bincount(np.concatenate([data["y_train"], data["y_val"], data["y_test"]]))
            np.testing.assert_allclose(np.bincount(data[f"y_{part}"]), share * total, atol=1)
        rows = [set(map(bytes, data[f"X_{part}"])) for part in ("train", "val", "test")]
        assert not rows[0] & rows[1]
        assert not rows[0] & rows[2]
        assert not rows[1] & rows[2]
        # The first labels of each part: figures quoted for this data hold for this split alone.
        assert data["y_train"][:10].tolist() == [8, 8, 6, 8, 8, 8, 6, 6, 5, 8]
        assert data["y_val"][:10].tolist() == [6, 6, 6, 6, 6, 7, 9, 7, 6, 9]
        assert data["y_test"][:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5]

    def test_callers_own_their_arrays(self):
        load_digits()["X_train"][:] = 7
        assert load_digits()["X_train"].max() == 1


class TestLoad:
    def test_both_layouts_hold_the_same(self, tmp_path, layout):
        folder = cifar_files.write_layout(tmp_path, layout)
        for root in (folder, tmp_path, str(tmp_path)):
            X_train, y_train, X_test, y_test = load_CIFAR10(root)
            for X, y, names in ((X_train, y_train, TRAIN), (X_test, y_test, [TEST])):
                pixels, labels = images_of(*names)
                assert X.dtype == np.float32
                assert y.dtype == np.int64
                np.testing.assert_array_equal(X, pixels)
                np.testing.assert_array_equal(y, labels)

    def test_no_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*download_CIFAR10"):
            load_CIFAR10(tmp_path / "nowhere")

    def test_folder_of_something_else(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"neither CIFAR-10's batches nor cifar-10-batches-bin"):
            load_CIFAR10(tmp_path)

    def test_missing_file_is_named(self, tmp_path, layout):
        folder = cifar_files.write_layout(tmp_path, layout)
        next(folder.glob("data_batch_4*")).unlink()
        with pytest.raises(FileNotFoundError, match=r"data_batch_4\S* is missing"):
            load_CIFAR10(tmp_path)

    @pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
    def test_short_file(self, tmp_path, layout, keep):
        path = next(cifar_files.write_layout(tmp_path, layout).glob("data_batch_3*"))
        os.truncate(path, int(keep * path.stat().st_size))
        with pytest.raises(ValueError, match=r"data_batch_3.* is not a (binary|pickled) batch"):
            load_CIFAR10(tmp_path)

    def test_long_file(self, tmp_path):
        path = cifar_files.write_layout(tmp_path, "binary") / "data_batch_2.bin"
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(
            ValueError, match=r"data_batch_2.bin is not a binary batch.*61461 bytes, expected 61460"
        ):
            load_CIFAR10(tmp_path)

    def test_wrong_label(self, tmp_path, layout):
        folder = cifar_files.write_layout(tmp_path, layout)
        pixels, labels = cifar_files.batch(TEST)
        labels[7] = 10
        if layout == "python":
            cifar_files.write_pickle(folder / TEST, pixels, labels)
        else:
            cifar_files.write_binary(folder / f"{TEST}.bin", pixels, labels)
        with pytest.raises(ValueError, match=r"test_batch.* a label is 10, expected 0\.\.9"):
            load_CIFAR10(tmp_path)


class Harmful:
    """Unpickles by writing a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class TestPickles:
    @pytest.fixture
    def read(self, tmp_path):
        """Reads the data set with `content` in place of its third batch."""
        folder = cifar_files.write_layout(tmp_path / "data", "python")

        def read(content):
            (folder / "data_batch_3").write_bytes(content)
            return load_CIFAR10(folder)

        return read

    def batch_with(self, **items):
        pixels, labels = cifar_files.batch("data_batch_3")
        whole = {b"labels": labels.tolist(), b"data": pixels}
        whole.update((key.encode(), value) for key, value in items.items())
        return cifar_files.python2_pickle({key: value for key, value in whole.items() if value is not None})

    def test_other_keys_do_no_harm(self, read):
        names = [b"one.png", b"two.png"]
        X, *_ = read(self.batch_with(filenames=names, batch_label=b"training batch 3 of 5"))
        np.testing.assert_array_equal(X, images_of(*TRAIN)[0])

    def test_column_major_array(self, read):
        pixels = images_of("data_batch_3")[0].reshape(20, 3072)
        content = self.batch_with(data=pixels.T.reshape(20, 3072))
        X, *_ = read(content.replace(b"\x89T", b"\x88T", 1))  # the flag before the array's content
        np.testing.assert_array_equal(X[40:60].reshape(20, 3072), pixels)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("encoding", ["bytes", "latin1"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_pickled_anew_by_python_3(self, read, protocol, encoding, order):
        """As students do who have read a batch with `pickle.load(file, encoding=...)`."""
        pixels, labels = cifar_files.batch("data_batch_3")
        keys = ("data", "labels") if encoding == "latin1" else (b"data", b"labels")
        batch = dict(zip(keys, (np.array(pixels, order=order), labels.tolist()), strict=True))
        X, y, *_ = read(pickle.dumps(batch, protocol=protocol))
        np.testing.assert_array_equal(X, images_of(*TRAIN)[0])
        np.testing.assert_array_equal(y[40:60], labels)

    @pytest.mark.parametrize("protocol", [0, 2, 4])
    def test_code_is_not_run(self, read, tmp_path, protocol):
        marker = tmp_path / "written"
        with pytest.raises(ValueError, match=r"data_batch_3 is not .*it asks for \w+\.open"):
            read(pickle.dumps({"data": Harmful(marker), "labels": []}, protocol=protocol))
        assert not marker.exists()

    def test_numpy_itself_is_not_called(self, read):
        """An object array's state could carry any object; `scalar` and the rest of NumPy are out of reach."""
        content = pickle.dumps({"data": np.float64(1), "labels": []}, protocol=2)
        with pytest.raises(ValueError, match=r"it asks for numpy\.\S*multiarray\.scalar"):
            read(content)

    @pytest.mark.parametrize(
        ("items", "complaint"),
        [
            ({"data": None}, "no dict with 'data' and 'labels'"),
            ({"labels": None}, "no dict with 'data' and 'labels'"),
            ({"data": np.zeros((20, 3071), np.uint8)}, "not a uint8 array"),
            ({"data": np.zeros((19, 3072), np.uint8)}, "not a uint8 array"),
            ({"data": np.zeros((20, 3072), np.int8)}, "not a uint8 array"),
            ({"data": [1, 2]}, "not a uint8 array"),
            ({"labels": [1] * 19}, "not a list of 20 integers"),
            ({"labels": [1] * 19 + [b"2"]}, "not a list of 20 integers"),
            ({"labels": [1] * 19 + [-1]}, "a label is -1"),
            ({"labels": b"12345678901234567890"}, "not a list of 20 integers"),
        ],
    )
    def test_foreign_content(self, read, items, complaint):
        with pytest.raises(ValueError, match=rf"data_batch_3.*{complaint}"):
            read(self.batch_with(**items))

    @pytest.mark.parametrize(
        "content", [b"", b"\x89PNG\r\n\x1a\n", b"\x80\x02", cifar_files.python2_pickle([1]), b"P1\n."]
    )
    def test_other_files(self, read, content):
        with pytest.raises(ValueError, match="data_batch_3 is not a pickled batch"):
            read(content)

    @pytest.mark.parametrize(
        "content",
        [
            b"\x80\x02]r\xff\xff\xff\x01.",  # the object's number: a table of that length
            b"]p33554431\n.",
            b"\x96\0\0\0\x10\0\0\0\0.",  # the length of a bytearray
            b"\x80\x04\x95\0\0\0\x10\0\0\0\0.",  # of a frame
            pytest.param(
                # One text again and again, in the way that Python 3 writes bytes.
                b"\x80\x02c_codecs\nencode\nq\0X\x60\xea\0\0%bX\6\0\0\0latin1\x86q\1]%b."
                % (60_000 * b"a", 9_000 * b"h\0h\1Ra"),
                id="the same bytes",
            ),
        ],
    )
    def test_sizes_are_not_believed(self, tmp_path, content):
        """A pickle of few bytes once took gigabytes. As a process of its own: the unpickler's tables are not
        among what Python can count."""
        folder = cifar_files.write_layout(tmp_path / "data", "python")
        (folder / "data_batch_1").write_bytes(content)
        code = (
            "import resource, sys\n"
            "from cnnlib.data import cifar10\n"
            "cifar10._IMAGES_PER_BATCH = 20\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
            f"try:\n    cifar10.load_CIFAR10({str(folder)!r})\n"
            "except ValueError as error:\n    assert 'data_batch_1' in str(error)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 50_000  # KiB

    def test_too_large_a_file_is_not_read(self, read):
        with pytest.raises(ValueError, match="it has 200000 bytes"):
            read(bytes(200_000))


class TestSplit:
    def test_parts_follow_each_other(self, tmp_path, layout):
        cifar_files.write_layout(tmp_path, layout)
        data = get_CIFAR10_data(tmp_path, num_training=70, num_validation=20, num_test=5, subtract_mean=False)
        assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]
        X, y = images_of(*TRAIN)
        np.testing.assert_array_equal(data["X_train"], X[:70])
        np.testing.assert_array_equal(data["y_train"], y[:70])
        np.testing.assert_array_equal(data["X_val"], X[70:90])
        np.testing.assert_array_equal(data["y_val"], y[70:90])
        X, y = images_of(TEST)
        np.testing.assert_array_equal(data["X_test"], X[:5])
        np.testing.assert_array_equal(data["y_test"], y[:5])

    def test_mean_is_that_of_the_training_part(self, tmp_path):
        cifar_files.write_layout(tmp_path, "binary")
        data = get_CIFAR10_data(tmp_path, 50, 50, 20)
        X, _ = images_of(*TRAIN)
        X_test, _ = images_of(TEST)
        mean = X[:50].astype(np.float64).mean(axis=0)
        for name, raw in (("X_train", X[:50]), ("X_val", X[50:]), ("X_test", X_test)):
            np.testing.assert_allclose(data[name], raw - mean, atol=2e-5)
            assert data[name].dtype == np.float32

    def test_default_place(self, tmp_path, monkeypatch):
        cifar_files.write_layout(tmp_path / "elsewhere", "binary")
        monkeypatch.setenv("CNNLIB_DATA", str(tmp_path / "elsewhere"))
        counts = {"num_training": 3, "num_validation": 1, "num_test": 0}
        assert get_CIFAR10_data(**counts)["X_train"].shape == (3, 3, 32, 32)
        monkeypatch.delenv("CNNLIB_DATA")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match="no folder data; "):
            get_CIFAR10_data(**counts)
        (tmp_path / "elsewhere").rename(tmp_path / "data")
        assert get_CIFAR10_data(**counts)["X_val"].shape == (1, 3, 32, 32)

    @pytest.mark.parametrize(
        ("counts", "error", "complaint"),
        [
            ({"num_training": 90, "num_validation": 11}, ValueError, r"90 \+ 11, but there are 100 training"),
            (
                {"num_training": 10, "num_validation": 0, "num_test": 21},
                ValueError,
                "there are 20 test images",
            ),
            ({"num_training": -1}, ValueError, "num_training must be at least 0, got -1"),
            ({"num_validation": 1.5}, TypeError, "num_validation must be an integer, got 1.5"),
            ({"num_training": 0, "num_validation": 5, "num_test": 5}, ValueError, "needs training images"),
        ],
    )
    def test_refused_counts(self, tmp_path, counts, error, complaint):
        cifar_files.write_layout(tmp_path, "binary")
        with pytest.raises(error, match=f"get_CIFAR10_data: .*{complaint}"):
            get_CIFAR10_data(tmp_path, **counts)

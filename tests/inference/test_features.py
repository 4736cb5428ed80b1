"""Features: what a network makes of images, computed once and kept."""

import signal
import sys
from types import SimpleNamespace

import cnnlib
import numpy as np
import pytest
from cnnlib._files.locks import locked
from cnnlib.data import Normalization
from cnnlib.data.shards import ShardedArray
from cnnlib.inference.predictor import Predictor
from cnnlib.models import ConvNet
from cnnlib.pretrained import Features
from cnnlib.solver import Solver
from image_folders import write_folder

X = np.random.default_rng(0).integers(0, 256, (150, 3, 16, 16), dtype=np.uint8)


def trunk(seed=0):
    model = ConvNet("resnet8", (3, 16, 16), 10, seed=seed).cut()
    model.preprocess = Normalization(120, 60)
    return cnnlib.prepare(model)


@pytest.fixture
def computed(monkeypatch):
    """How many images predictors have computed."""
    counts = []
    call = Predictor.__call__

    def counted(self, images):
        counts.append(len(images))
        return call(self, images)

    monkeypatch.setattr(Predictor, "__call__", counted)
    return counts


def test_features_are_what_the_predictor_computes(tmp_path):
    predictor = trunk()
    plain, kept = cnnlib.features(predictor, X), cnnlib.features(predictor, X, cache=tmp_path / "kept")
    assert isinstance(kept, Features)
    assert kept.shape == (150, 64)
    np.testing.assert_array_equal(plain, predictor(X))
    np.testing.assert_array_equal(kept, plain)
    np.testing.assert_array_equal(kept[[5, 3, 3]], plain[[5, 3, 3]])
    np.testing.assert_array_equal(kept.part(10, 20)[-1], plain[19])


def test_rows_are_not_chosen_by_several_axes():
    with pytest.raises(IndexError, match="got a tuple"):
        Features(np.eye(3), np.arange(3))[0, 1]


def test_nothing_is_computed_twice(tmp_path, computed):
    predictor = trunk()
    cnnlib.features(predictor, X[:100], cache=tmp_path)
    assert sum(computed) == 100
    order = np.random.default_rng(1).permutation(150)
    kept = cnnlib.features(predictor, X[order], cache=tmp_path)
    assert sum(computed) == 150
    again = cnnlib.features(trunk(), ShardedArray([X[:70], X[70:], X[:5]]), cache=tmp_path)
    assert sum(computed) == 150
    np.testing.assert_array_equal(again[:150][order], kept)


def test_equal_images_are_computed_once(tmp_path, computed):
    kept = cnnlib.features(trunk(), np.concatenate([X[:3], X[:3]]), cache=tmp_path)
    assert sum(computed) == 3
    np.testing.assert_array_equal(kept[:3], kept[3:])


def test_views(tmp_path):
    predictor = trunk()
    rows = cnnlib.features(predictor, X[:20], views=4, cache=tmp_path / "a")
    assert rows.shape == (80, 64)
    np.testing.assert_array_equal(rows[:20], predictor(X[:20]))
    np.testing.assert_array_equal(rows[20:40], predictor(X[:20, :, :, ::-1]))
    assert not np.array_equal(rows[40:60], rows[60:])
    alone = cnnlib.features(predictor, X[7:8], views=4, cache=tmp_path / "b")
    np.testing.assert_array_equal(alone, rows[7::20])  # a view does not depend on the other images
    np.testing.assert_array_equal(cnnlib.features(predictor, X[:20], views=4), rows)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_an_interrupt_loses_nothing(tmp_path, monkeypatch, batch):
    predictor = trunk()
    whole = cnnlib.features(predictor, X, cache=tmp_path / "whole")
    call, counts = Predictor.__call__, []

    def interrupted(self, images):
        counts.append(len(images))
        if len([count for count in counts if count]) == batch:
            signal.raise_signal(signal.SIGINT)
        return call(self, images)

    monkeypatch.setattr(Predictor, "__call__", interrupted)
    if batch < 3:
        with pytest.raises(KeyboardInterrupt):
            cnnlib.features(predictor, X, cache=tmp_path / "part")
        assert sum(counts) == 64 * batch
    else:
        with pytest.raises(KeyboardInterrupt):  # all are there when the answer comes
            cnnlib.features(predictor, X, cache=tmp_path / "part")
    monkeypatch.setattr(Predictor, "__call__", lambda *args: counts.append(len(args[1])) or call(*args))
    resumed = cnnlib.features(predictor, X, cache=tmp_path / "part")
    assert sum(counts) == 150
    np.testing.assert_array_equal(resumed, whole)


def test_the_header_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    """A file without one was refused from then on."""

    def interrupted(about):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cnnlib.pretrained.store.json", SimpleNamespace(dumps=interrupted))
        with pytest.raises(KeyboardInterrupt):
            cnnlib.features(trunk(), X[:5], cache=tmp_path)
    assert cnnlib.features(trunk(), X[:5], cache=tmp_path).shape == (5, 64)


def test_a_record_that_is_cut_short_is_written_anew(tmp_path, computed):
    predictor = trunk()
    whole = np.asarray(cnnlib.features(predictor, X, cache=tmp_path))
    path = tmp_path / "features.bin"
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 10)
    np.testing.assert_array_equal(cnnlib.features(predictor, X, cache=tmp_path), whole)
    assert sum(computed) == 151


def test_a_damaged_record_is_computed_anew(tmp_path, computed):
    predictor = trunk()
    whole = np.asarray(cnnlib.features(predictor, X, cache=tmp_path))
    content = bytearray((tmp_path / "features.bin").read_bytes())
    content[4096 + 100] ^= 1
    (tmp_path / "features.bin").write_bytes(content)
    np.testing.assert_array_equal(cnnlib.features(predictor, X, cache=tmp_path), whole)
    assert sum(computed) == 151


def test_features_of_another_network_are_refused(tmp_path):
    cnnlib.features(trunk(0), X[:5], cache=tmp_path)
    with pytest.raises(ValueError, match=r"features\.bin holds features of another network, <Predictor .*"):
        cnnlib.features(trunk(1), X[:5], cache=tmp_path)
    other = trunk(0)
    other.preprocess = Normalization(100, 60)
    with pytest.raises(ValueError, match="name another cache"):
        cnnlib.features(other, X[:5], cache=tmp_path)


def test_normalizations_that_do_the_same_to_bytes_share_a_cache(tmp_path, computed):
    """Whatever `white` is."""
    predictor = trunk()
    for normalization in (Normalization(127.5, 63.75), Normalization(0.5, 0.25, white=1)):
        predictor.preprocess = normalization
        kept = cnnlib.features(predictor, X[:5], cache=tmp_path)
        np.testing.assert_array_equal(kept, predictor(X[:5]))
        assert predictor.preprocess is normalization
    assert sum(computed) == 15


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 5000, b"\xff" * 5000])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "features.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"features\.bin is damaged, or no file of features"):
        cnnlib.features(trunk(), X[:5], cache=tmp_path)


def test_another_version_is_refused(tmp_path):
    cnnlib.features(trunk(), X[:5], cache=tmp_path)
    path = tmp_path / "features.bin"
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        cnnlib.features(trunk(), X[:5], cache=tmp_path)
    assert str(caught.value) == f"{path} is a file of features of version 2, and this cnnlib reads version 1"


def test_one_process_at_a_time_writes_to_a_cache(tmp_path):
    with (
        locked(tmp_path / "features.lock", "the test", "images"),
        pytest.raises(OSError, match=r"another process is writing to .*features\.bin; try again later"),
    ):
        cnnlib.features(trunk(), X[:5], cache=tmp_path)
    assert cnnlib.features(trunk(), X[:5], cache=tmp_path).shape == (5, 64)


def test_without_filelock_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "filelock", None)
    message = r"^features\(cache=\.\.\.\) needs filelock: pip install cnnlib\[images\]$"
    with pytest.raises(ImportError, match=message):
        cnnlib.features(trunk(), X[:5], cache=tmp_path)
    assert cnnlib.features(trunk(), X[:5]).shape == (5, 64)  # which needs none


def test_files_are_known_by_their_content(tmp_path, computed):
    pytest.importorskip("PIL")
    write_folder(tmp_path / "photos", {"cats": 4, "dogs": 3})
    paths = sorted((tmp_path / "photos").rglob("*.*"))
    predictor = trunk()
    rows = cnnlib.features(predictor, paths, cache=tmp_path / "kept")
    assert rows.shape == (7, 64)
    done = sum(computed)
    paths[0].rename(paths[0].with_name("other" + paths[0].suffix))
    paths[0] = paths[0].with_name("other" + paths[0].suffix)
    np.testing.assert_array_equal(cnnlib.features(predictor, paths, cache=tmp_path / "kept"), rows)
    assert sum(computed) == done


def test_a_solver_trains_on_them(tmp_path):
    y = np.arange(150) % 3
    rows = cnnlib.features(trunk(), X, views=2, cache=tmp_path)
    head = ConvNet(["relu"], 64, 3, seed=0)
    data = {"X_train": rows, "y_train": np.tile(y, 2), "X_val": rows.part(0, 50), "y_val": y[:50]}
    solver = Solver(head, data, update_rule="adam", num_epochs=2, verbose=False, seed=0)
    assert solver.X_train is rows
    solver.train()
    assert np.isfinite(solver.loss_history).all()


@pytest.mark.parametrize(
    ("images", "options", "kind", "text"),
    [
        (X[:, :1], {}, ValueError, "3"),
        (np.zeros(3), {}, ValueError, "samples"),
        (["nowhere.png"], {}, FileNotFoundError, "nowhere.png"),
        (X, {"views": 0}, ValueError, "views"),
    ],
)
def test_bad_input(images, options, kind, text):
    with pytest.raises(kind, match=text):
        cnnlib.features(trunk(), images, **options)


def test_no_images_at_all(tmp_path):
    assert cnnlib.features(trunk(), X[:0], cache=tmp_path).shape == (0, 64)


def test_files_are_for_networks_of_images(tmp_path):
    with pytest.raises(ValueError, match=r"no images of 1 or 3 channels, as files have them.*\(4, 8, 8\)"):
        cnnlib.features(ConvNet([{"conv": 2}], (4, 8, 8), 3, seed=0), [tmp_path / "a.png"])


def test_no_network():
    with pytest.raises(TypeError, match="must be a Predictor or a model, got a str"):
        cnnlib.features("resnet18", X)


def test_views_of_rows():
    predictor = cnnlib.prepare(ConvNet([{"affine": 5}, "relu"], 8, 3, seed=0).cut())
    with pytest.raises(ValueError, match=r"views are of images \(N, C, H, W\)"):
        cnnlib.features(predictor, np.zeros((4, 8)), views=2)

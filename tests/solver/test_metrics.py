"""The metrics of cnnlib.solver.metrics, beside scikit-learn's and plain formulas; batch by batch."""

import functools

import numpy as np
import pytest
from cnnlib.solver.metrics import METRICS, build_metrics, describe_metrics

RNG = np.random.default_rng(0)


def measured(metric, scores, y, batch_size=7):
    """The metric of all samples, a batch at a time."""
    (metric,) = build_metrics("metrics", metric)
    parts = [slice(start, start + batch_size) for start in range(0, len(scores), batch_size)]
    return metric.value(
        functools.reduce(metric.merge, [metric.look(scores[part], y[part]) for part in parts])
    )


def labelled(*shape, C=7):
    return RNG.standard_normal((shape[0], C, *shape[1:])), RNG.integers(C, size=shape)


class TestLabels:
    def test_beside_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        scores, y = labelled(40)
        guesses = scores.argmax(axis=1)
        wants = {
            "accuracy": metrics.accuracy_score(y, guesses),
            "top5": metrics.top_k_accuracy_score(y, scores, k=5),
            "f1": metrics.f1_score(y, guesses, average="macro"),
            "iou": metrics.jaccard_score(y, guesses, average="macro"),
        }
        for name, want in wants.items():
            assert measured(name, scores, y) == pytest.approx(want, rel=1e-12), name

    @pytest.mark.parametrize("name", ["accuracy", "top5", "f1", "iou"])
    def test_pixels_are_samples(self, name):
        scores, y = labelled(9, 4, 5)
        flat = scores.transpose(0, 2, 3, 1).reshape(-1, 7)
        assert measured(name, scores, y) == measured(name, flat, y.reshape(-1))

    @pytest.mark.parametrize("name", ["accuracy", "top5", "f1", "iou"])
    def test_ignored_labels_do_not_count(self, name):
        scores, y = labelled(60)
        counts = RNG.random(60) < 0.5
        ignoring = {"name": name, "ignore": 255}
        assert measured(ignoring, scores, np.where(counts, y, 255)) == measured(
            name, scores[counts], y[counts]
        )
        assert np.isnan(measured(ignoring, scores, np.full(60, 255)))

    @pytest.mark.parametrize("name", ["accuracy", "top5", "f1", "iou"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
    def test_integers_of_any_kind_are_labels(self, name, dtype):
        scores, y = labelled(40)
        assert measured(name, scores, y.astype(dtype)) == measured(name, scores, y)

    @pytest.mark.parametrize("name", ["top5", "f1", "iou"])
    def test_labels_of_no_class_are_refused(self, name):
        scores, y = labelled(40)
        for label, found in ((7, r"0\.\.7"), (-1, r"-1\.\.6")):
            with pytest.raises(ValueError, match=rf"{name}: labels must be in 0\.\.6, got {found}"):
                measured(name, scores, np.append(y[:-1], label), batch_size=40)

    def test_top5_of_few_classes_and_of_nan(self):
        scores, y = labelled(8, C=3)
        assert measured("top5", scores, y) == 1.0
        assert measured("top5", np.full((2, 7), np.nan), np.array([0, 1])) == 0.0

    @pytest.mark.parametrize("shape", [(2, 7), (2, 7, 3)])
    def test_scores_that_are_nan_are_of_no_class(self, shape):
        """Else a network that has diverged is right wherever the label is the first class."""
        scores, y = np.zeros(shape), np.zeros((2, *shape[2:]), int)
        scores[0, 3] = np.nan
        for name, want in (("accuracy", 0.5), ("iou", 0.5), ("f1", 2 / 3)):
            assert measured(name, scores, y) == pytest.approx(want), name

    def test_classes_that_never_occur_do_not_count(self):
        scores, y = np.eye(9)[[0, 1, 1]], np.array([0, 1, 0])
        assert measured("iou", scores, y) == 0.5
        assert measured("f1", scores, y) == pytest.approx(2 / 3)


class TestBits:
    """Targets 0 and 1 for each score."""

    def test_of_several_labels_beside_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        scores = RNG.standard_normal((50, 4))
        y = (RNG.random((50, 4)) < 0.4).astype(np.float32)
        wants = {
            "f1": metrics.f1_score(y, scores > 0, average="macro"),
            "iou": metrics.jaccard_score(y, scores > 0, average="macro"),
            "accuracy": np.mean((scores > 0) == (y > 0.5)),
        }
        for name, want in wants.items():
            assert measured(name, scores, y) == pytest.approx(want, rel=1e-12), name

    def test_of_masks(self):
        scores = np.array([[[[1.0, 2.0], [-1.0, -2.0]]]])
        y = np.array([[[[1, 0], [1, 0]]]], dtype=np.uint8)
        assert measured("iou", scores, y) == pytest.approx(1 / 3)
        assert measured("f1", scores, y) == pytest.approx(1 / 2)
        assert measured("accuracy", scores, y) == 0.5
        assert np.isnan(measured("iou", -np.ones((2, 1, 3, 3)), np.zeros((2, 1, 3, 3))))
        assert measured("accuracy", np.full((2, 1, 3, 3), np.nan), np.zeros((2, 1, 3, 3))) == 0


class TestNumbers:
    def test_beside_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        y = RNG.standard_normal((33, 3)) + np.array([0, 1e6, 1e-3])
        scores = y + RNG.standard_normal(y.shape)
        wants = {
            "rmse": metrics.mean_squared_error(y, scores) ** 0.5,
            "mae": metrics.mean_absolute_error(y, scores),
            "r2": metrics.r2_score(y, scores),
        }
        for name, want in wants.items():
            assert measured(name, scores, y) == pytest.approx(want, rel=1e-9), name

    def test_r2_where_all_targets_are_equal(self):
        metrics = pytest.importorskip("sklearn.metrics")
        y = np.array([[1.0, 1.0]] * 5)
        scores = y + [[0.0, 0.5]] * 5
        assert measured("r2", scores, y, 2) == metrics.r2_score(y, scores) == 0.5

    @pytest.mark.parametrize(("error", "want"), [(0.0, 1.0), (0.5, 0.0)])
    def test_r2_where_targets_differ_by_rounding(self, error, want):
        y = np.full((1000, 1), 0.1)
        assert y.mean() != 0.1
        assert measured("r2", y + error, y, 1000) == want

    def test_psnr(self):
        y = RNG.random((6, 3, 8, 8)).astype(np.float32)
        scores = (y + 0.1 * RNG.standard_normal(y.shape)).astype(np.float32)
        each = [
            10 * np.log10(1 / np.mean((a.astype(float) - b) ** 2)) for a, b in zip(scores, y, strict=True)
        ]
        assert measured("psnr", scores, y, 2) == pytest.approx(np.mean(each), rel=1e-12)
        bytes = {"name": "psnr", "range": 255.0}
        assert measured(bytes, 255 * scores, 255 * y, 2) == pytest.approx(np.mean(each), rel=1e-5)
        assert measured("psnr", y, y) == np.inf

    @pytest.mark.parametrize("name", ["rmse", "mae", "r2", "psnr"])
    def test_nothing_broadcasts(self, name):
        with pytest.raises(
            ValueError, match=rf"{name}: targets must be of the scores' shape \(5, 2\), got \(5, 1\)"
        ):
            measured(name, np.zeros((5, 2)), np.zeros((5, 1)))

    @pytest.mark.parametrize("name", ["rmse", "mae", "r2", "psnr"])
    def test_numbers_of_one_output_may_lack_its_axis(self, name):
        scores, y = np.random.default_rng(0).standard_normal((2, 5, 1))
        assert measured(name, scores, y[:, 0]) == measured(name, scores, y)

    @pytest.mark.parametrize("name", METRICS.classes)
    def test_shapes_that_do_not_fit(self, name):
        with pytest.raises(ValueError, match="scores"):
            measured(name, np.zeros((5, 3)), np.zeros((5, 2), dtype=int))


class TestNames:
    def test_and_back(self):
        own = lambda scores, y: 0.0  # noqa: E731
        own.__name__ = "mine"
        built = build_metrics("metrics", [{"name": "psnr", "range": 2.0}, own])
        assert [metric.name for metric in built] == ["psnr", "mine"]
        assert describe_metrics(built) == [{"name": "psnr", "range": 2.0}, "(a function of the user's own)"]

    def test_own_functions_are_given_all_at_once(self):
        def spread(scores, y):
            return len(scores) + np.ptp(y)

        assert measured(spread, np.zeros((9, 2)), np.arange(9.0), 4) == 17

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ("acuracy", ValueError, "unknown metric 'acuracy'; did you mean 'accuracy'"),
            (["rmse", "rmse"], ValueError, "'rmse' is taken"),
            ({"name": "psnr", "range": 0}, ValueError, "range must be above 0"),
            ({"name": "psnr", "rang": 1}, ValueError, "did you mean 'range'"),
            ({"name": "f1", "ignore": 1.5}, TypeError, "f1: ignore must be an integer, got 1.5"),
            ({"name": "top5", "ignore": "255"}, TypeError, "top5: ignore must be an integer"),
            (3, TypeError, "metric must be a name"),
        ],
    )
    def test_wrong_ones(self, value, error, message):
        with pytest.raises(error, match=message):
            build_metrics("metrics", value)

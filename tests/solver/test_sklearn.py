"""ConvNetClassifier among scikit-learn's tools."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="ConvNetClassifier is an estimator of scikit-learn")

import cnnlib
import joblib
from cnnlib.models import ConvNet
from cnnlib.sklearn import ConvNetClassifier, ConvNetRegressor
from cnnlib.sklearn.estimator import resolved_image_shape, signal_spec
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

SPEC = [{"conv": 8}, "relu", {"max_pool": 2}, {"dropout": 0.1}]


def small(**settings):
    return ConvNetClassifier(
        **{"spec": SPEC, "image_shape": (1, 8, 8), "learning_rate": 0.01, "max_epochs": 3, **settings}
    )


@pytest.fixture(scope="module")
def digits():
    """X_train, y_train, X_test, y_test: flat, in 0..16."""
    X, y = load_digits(return_X_y=True)
    return X[:600], y[:600], X[600:1200], y[600:1200]


@pytest.mark.slow
@parametrize_with_checks(
    [
        ConvNetClassifier(),
        ConvNetClassifier(
            [{"residual": [{"conv": 8, "stride": 2}, "batchnorm"]}, "relu", {"dropout": 0.1}],
            (1, 1, -1),
            early_stopping=True,
            learning_rate=0.01,
            schedule="cosine",
            weight_decay=1e-3,
            dtype="float64",
        ),
        ConvNetRegressor(),
        ConvNetRegressor(
            [{"affine": 32}, "relu"],
            (1, 1, -1),
            early_stopping=True,
            learning_rate=0.01,
            loss="huber",
            dtype="float64",
        ),
    ]
)
def test_estimator_checks(estimator, check):
    """One is skipped: that of the array API, which scikit-learn makes only where SCIPY_ARRAY_API is set."""
    check(estimator)


@pytest.fixture(scope="module")
def ink(digits):
    """X_train, y_train, X_test, y_test: how much ink a digit has, and in which column its middle lies."""

    def of(X):
        return np.stack([100 * X.sum(axis=1), X @ (np.arange(64) % 8) / X.sum(axis=1)], axis=1)

    X, _, X_test, _ = digits
    return X, of(X), X_test, of(X_test)


class TestRegression:
    def regressor(self, **settings):
        return ConvNetRegressor(
            [{"conv": 8}, "relu"], (1, 8, 8), learning_rate=0.01, max_epochs=20, random_state=0, **settings
        )

    @pytest.mark.parametrize("loss", ["mse", "l1", {"name": "huber", "delta": 0.5}], ids=str)
    def test_numbers(self, ink, loss):
        X, y, X_test, y_test = ink
        net = self.regressor(loss=loss).fit(X, y)
        assert net.score(X_test, y_test) > 0.9
        assert net.predict(X_test).shape == y_test.shape
        assert net.n_outputs_ == 2
        one = self.regressor(loss=loss).fit(X, y[:, 0])
        assert one.predict(X_test).shape == (len(X_test),)
        assert one.score(X_test, y_test[:, 0]) > 0.9

    def test_the_network_itself_gives_the_numbers(self, ink, tmp_path):
        X, y, X_test, _ = ink
        net = self.regressor(early_stopping=True).fit(X, y)
        assert len(net.validation_scores_) == net.n_iter_
        assert net.best_validation_score_ == max(net.validation_scores_)
        net.model_.save(tmp_path / "net.npz")
        model = cnnlib.load(tmp_path / "net.npz")
        images = np.float32(X_test.reshape(-1, 1, 8, 8))
        np.testing.assert_allclose(model.loss(model.preprocess(images)), net.predict(X_test), rtol=1e-4)

    def test_numbers_far_from_zero(self, ink):
        """As dates in seconds are, of which a float32 holds every 128th."""
        X, y, X_test, _ = ink
        near, far = (self.regressor().fit(X, y + offset).predict(X_test) for offset in (0, 2e9))
        np.testing.assert_allclose(far - 2e9, near, atol=1e-4 * y.std())

    def test_numbers_without_a_deviation(self, ink):
        """Their squares are none in float64; they were predicted as infinity."""
        X, y, *_ = ink
        with pytest.raises(ValueError, match=r"^ConvNetRegressor: y holds numbers whose squares are none"):
            self.regressor().fit(X, y * 1e300)

    def test_the_same_bits_again(self, ink):
        X, y, X_test, _ = ink
        first, second = (self.regressor().fit(X, y).predict(X_test) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize(
        ("settings", "error", "text"),
        [
            ({"loss": "hinge"}, ValueError, "ConvNetRegressor: unknown loss 'hinge'"),
            (
                {"loss": "bce"},
                ValueError,
                "^ConvNetRegressor: loss must be one of mse, l1, huber where y is standardized, got 'bce'$",
            ),
            (
                {"early_stopping": True, "validation_fraction": 1.0},
                ValueError,
                "ConvNetRegressor: early_stopping",
            ),
            ({"max_epochs": 0}, ValueError, "ConvNetRegressor: max_epochs"),
            ({"image_shape": (1, 8, 9)}, ValueError, "ConvNetRegressor: images of image_shape"),
        ],
    )
    def test_wrong_settings(self, ink, settings, error, text):
        net = self.regressor().set_params(**settings)
        with pytest.raises(error, match=text):
            net.fit(ink[0], ink[1])


class TestShapes:
    def test_flat_rows_and_images_give_the_same_bits(self, digits):
        X, y, X_test, _ = digits
        flat = small(random_state=0).fit(X, y)
        images = small(image_shape=None, random_state=0).fit(X.reshape(-1, 1, 8, 8), y)
        expected = flat.predict_proba(X_test)
        assert np.array_equal(images.predict_proba(X_test.reshape(-1, 1, 8, 8)), expected)
        assert np.array_equal(images.predict_proba(X_test), expected)
        assert flat.image_shape_ == images.image_shape_ == (1, 8, 8)
        assert flat.n_features_in_ == images.n_features_in_ == 64

    def test_bytes(self, digits):
        X, y, X_test, y_test = digits
        images = np.uint8(15 * X).reshape(-1, 1, 8, 8)
        assert small(random_state=0).fit(images, y).score(15 * X_test, y_test) > 0.8

    def test_one_size_follows_from_the_others(self):
        assert resolved_image_shape("here", (3, -1, 4), 24) == (3, 2, 4)
        assert resolved_image_shape("here", None, 24) == (1, 1, 24)

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((1, 8, 9), "(1, 8, 9) do not have X's 64 features"),
            ((1, 10, -1), "(1, 10, -1) do not have X's 64 features"),
            ((1, 100, -1), "(1, 100, -1) do not have X's 64 features"),
            ((1, -1, -1), "one of which may be -1"),
            ((0, 8, 8), "at least 1"),
            ((8, 8), "image_shape must be (C, H, W)"),
            (64, "image_shape must be (C, H, W)"),
            ((1, 8, 8.0), "image_shape must be an integer"),
        ],
    )
    def test_wrong_image_shapes(self, digits, shape, message):
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            small(image_shape=shape).fit(*digits[:2])

    def test_images_of_another_shape(self, digits):
        X, y, *_ = digits
        net = small(random_state=0).fit(X, y)
        with pytest.raises(ValueError, match=re.escape("images of shape (1, 8, 8), got (4, 4, 4)")):
            net.predict(X.reshape(-1, 4, 4, 4))
        with pytest.raises(ValueError, match=re.escape("images of shape (1, 8, 8), got (4, 4, 4)")):
            small().fit(X.reshape(-1, 4, 4, 4), y)
        with pytest.raises(ValueError, match=re.escape("(N, D) or (N, C, H, W), got (600, 8, 8)")):
            net.predict(X.reshape(-1, 8, 8))
        with pytest.raises(ValueError, match="60 features, but ConvNetClassifier is expecting 64"):
            net.predict(X[:, :60])

    def test_signals(self):
        spec = [
            {"conv": 4},
            {
                "residual": [{"conv": 8, "size": 5, "stride": 2, "pad": 2}],
                "shortcut": [{"conv": 8, "stride": 2}],
            },
            "relu",
            {"depthwise": 3},
            {"conv": 2, "size": (1, 1)},
            {"max_pool": 2},
        ]
        net = ConvNet(signal_spec(spec), (1, 1, 40), 3)
        shapes = [net.params[f"W{k}"].shape for k in range(1, 6)]
        assert shapes == [(4, 1, 1, 3), (8, 4, 1, 5), (8, 4, 1, 3), (8, 1, 1, 3), (2, 8, 1, 1)]
        assert net.params["W6"].shape == (2 * 10, 3)

    @pytest.mark.parametrize(
        "spec",
        [
            [{"concat": [[{"max_pool": 3, "stride": 1, "pad": 1}], [{"conv": 2}]]}],
            [{"concat": [[{"avg_pool": 2}], [{"conv": 2, "stride": 2}], [{"depthwise": 2, "stride": 2}]]}],
            [{"name": "a", "conv": 3}, {"add": ["a", [{"conv": 3, "size": 5}]]}],
            [{"multiply": [[{"conv": 2}], ["global_avg_pool", {"affine": 2}, "sigmoid"]]}],
            [{"residual": [{"concat": [[{"conv": 1}], [{"conv": 1, "dilation": 2}]]}]}],
            [{"conv": 2, "stride": 2}, {"upsample": 2}, {"concat": [["relu"], "input"]}],
            [
                {"conv": 2, "stride": np.int64(2)},
                {"conv_transpose": 2, "stride": 2, "pad": 1, "output_pad": 1},
            ],
            [{"adaptive_avg_pool": 4}, {"concat": [[{"conv": 1}], [{"adaptive_max_pool": 4}]]}],
        ],
        ids=str,
    )
    def test_signals_in_branches(self, spec):
        """Every stage keeps the one row."""
        model = ConvNet(signal_spec(spec), (1, 1, 20), 3)
        for name, value in model.params.items():
            assert value.ndim != 4 or value.shape[2] == 1, name
        rng = np.random.default_rng(0)
        net = ConvNetClassifier(spec, max_epochs=1, random_state=0).fit(
            rng.normal(size=(30, 20)), np.arange(30) % 3
        )
        assert net.predict_proba(rng.normal(size=(4, 20))).shape == (4, 3)

    def test_where_a_wave_begins_does_not_matter_to_a_net_of_signals(self):
        rng = np.random.default_rng(0)
        y = rng.integers(3, size=400)
        phase = rng.uniform(0, 2 * np.pi, size=(400, 1))
        X = np.sin((0.3 + 0.4 * y[:, None]) * np.arange(50) + phase) + 0.3 * rng.normal(size=(400, 50))
        spec = [{"conv": 8, "size": 9}, "relu", "global_avg_pool"]
        net = ConvNetClassifier(spec, learning_rate=0.02, random_state=0).fit(X[:300], y[:300])
        assert net.score(X[300:], y[300:]) > 0.95


def test_after_an_error_it_begins_anew(digits):
    X, y, *_ = digits
    classifier = small(spec="typo", random_state=0)
    with pytest.raises(ValueError, match="unknown spec"):
        classifier.partial_fit(X, y, classes=range(10))
    classifier.set_params(spec=SPEC).partial_fit(X, y, classes=range(10))
    classifier.set_params(batch_size=0)
    with pytest.raises(ValueError, match="batch_size"):
        classifier.fit(X, y > 4)
    with pytest.raises(NotFittedError):  # neither the old network nor the new classes
        classifier.predict(X)


@pytest.mark.parametrize("kind", [ConvNetClassifier, ConvNetRegressor])
def test_a_class_of_the_users_own_may_have_other_arguments(kind):
    class Own(kind):
        def __init__(self, depth=1, learning_rate=1e-2):
            super().__init__(image_shape=(1, 4, 4), learning_rate=learning_rate, max_epochs=3)
            self.depth = depth

    own = clone(Own(depth=2))
    assert own.get_params() == {"depth": 2, "learning_rate": 1e-2}
    assert (own.image_shape, own.max_epochs, own.batch_size) == ((1, 4, 4), 3, kind().batch_size)


class TestFit:
    def test_it_learns(self, digits):
        X, y, X_test, y_test = digits
        net = small(max_epochs=20, random_state=0).fit(X, y)
        assert net.score(X_test, y_test) > 0.93
        assert net.n_iter_ == len(net.loss_curve_) == 20
        assert net.loss_curve_[-1] < 0.1 * net.loss_curve_[0]
        assert net.validation_scores_ is None

    def test_the_network_is_what_a_solver_makes(self, digits):
        """Data, order, standardisation and settings reach the Solver as they should."""
        X, y, X_test, _ = digits
        net = small(reg=0.1, max_epochs=2, batch_size=64, random_state=5).fit(X, y)
        random = np.random.RandomState(5)
        images = X.reshape(-1, 1, 8, 8)
        model = ConvNet(SPEC, (1, 8, 8), 10, reg=0.1, seed=random.randint(2**31))
        solver = cnnlib.solver.Solver(
            model,
            {"X_train": images, "y_train": y, "X_val": images[:1], "y_val": y[:1]},
            update_rule="adam",
            optim_config={"learning_rate": 0.01},
            batch_size=64,
            num_epochs=2,
            num_train_samples=1,
            keep="last",
            preprocess=cnnlib.data.Normalization(X.mean(), X.std()),
            verbose=False,
            seed=random.randint(2**31),
        )
        solver.train()
        assert net.loss_curve_ == pytest.approx(
            np.reshape(solver.loss_history, (2, -1)).mean(axis=1), rel=1e-6
        )
        scores = model.loss((X_test.reshape(-1, 1, 8, 8) - X.mean()) / X.std())
        assert np.array_equal(net.predict(X_test), scores.argmax(axis=1))

    @pytest.mark.parametrize("shape", [(1, 8, 8), None])
    def test_the_same_seed_gives_the_same_bits(self, digits, num_threads, shape):
        X, y, X_test, _ = digits
        results = []
        for threads in (1, 2, 2):
            num_threads(threads)
            net = small(
                image_shape=shape, augment={"name": "crop", "pad": 1}, early_stopping=True, random_state=3
            )
            results.append(net.fit(X, y).predict_proba(X_test).tobytes())
        assert len(set(results)) == 1
        other = small(
            image_shape=shape, augment={"name": "crop", "pad": 1}, early_stopping=True, random_state=4
        )
        assert other.fit(X, y).predict_proba(X_test).tobytes() != results[0]

    def test_without_a_seed_numpy_governs(self, digits):
        X, y, X_test, _ = digits
        results = []
        for seed in (0, 0, 1):
            np.random.seed(seed)
            results.append(small(max_epochs=1).fit(X, y).predict_proba(X_test).tobytes())
        assert results[0] == results[1] != results[2]

    def test_classes_may_have_names(self, digits):
        X, y, X_test, y_test = digits
        names = np.array([f"digit {k}" for k in range(10)])
        net = small(random_state=0).fit(X, names[y])
        assert net.classes_.tolist() == names.tolist()
        assert net.score(X_test, names[y_test]) == small(random_state=0).fit(X, y).score(X_test, y_test) > 0.8
        assert net.predict(X_test).dtype.kind == "U"

    def test_probabilities(self, digits):
        X, y, X_test, _ = digits
        net = small(random_state=0).fit(X, y)
        proba = net.predict_proba(X_test)
        assert proba.shape == (600, 10)
        assert proba.dtype == np.float64
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
        assert np.array_equal(net.classes_[proba.argmax(axis=1)], net.predict(X_test))

    def test_early_stopping_keeps_the_best_epoch(self, digits):
        X, y, *_ = digits
        settings = {
            "early_stopping": True,
            "n_iter_no_change": 2,
            "validation_fraction": 0.2,
            "random_state": 0,
        }
        net = small(max_epochs=60, **settings).fit(X, y)
        scores = net.validation_scores_
        assert net.n_iter_ == len(scores) < 60
        best = int(np.argmax(scores)) + 1
        assert net.n_iter_ == best + 2
        assert net.best_validation_score_ == max(scores) > 0.8
        until_then = small(max_epochs=best, **settings).fit(X, y)
        assert np.array_equal(until_then.predict_proba(X), net.predict_proba(X))

    def test_validation_has_all_classes_or_says_why_not(self, digits):
        X, y, *_ = digits
        few = np.concatenate([np.flatnonzero(y == k)[:3] for k in range(10)])
        net = small(early_stopping=True, random_state=0).fit(X[few], y[few])
        assert {round(10 * score, 6) % 1 for score in net.validation_scores_} == {0}  # tenths: 10 samples
        with pytest.raises(ValueError, match="sets 10 samples aside, but X has n_samples=10"):
            small(early_stopping=True).fit(X[few[::3]], y[few[::3]])

    def test_numpys_false_is_no_early_stopping(self, digits):
        net = small(max_epochs=1, early_stopping=np.array([False])[0]).fit(*digits[:2])
        assert net.best_validation_score_ is None

    def test_verbose_tells_of_each_epoch(self, digits, capsys):
        X, y, *_ = digits
        small(max_epochs=2, verbose=True, early_stopping=True, random_state=0).fit(X, y)
        lines = capsys.readouterr().out.splitlines()
        number = r"\d+\.\d+"
        assert len(lines) == 2
        for k, line in enumerate(lines, start=1):
            assert re.fullmatch(rf"epoch {k}: loss {number}, val_accuracy {number}, {number} s", line)
        small(max_epochs=1, random_state=0).fit(X, y)
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"spec": "resnet9"}, "did you mean 'resnet8'"),
            ({"spec": 3}, "stages must be a list, got 3"),
            ({"spec": [{"conv": 8, "size": 9, "pad": 0}]}, "stage 1 (conv)"),
            ({"spec": "unet"}, "spec has a head, which follows from y: leave it out"),
            ({"spec": [{"conv": 2}, {"classes": 12}]}, "spec has a head"),
            ({"spec": [{"conv": 2}, {"values": 10}]}, "spec has a head"),
            ({"update_rule": "adan"}, "did you mean 'adam'"),
            ({"learning_rate": -1}, "learning_rate"),
            ({"batch_size": 0}, "batch_size must be at least 1"),
            ({"max_epochs": 0}, "max_epochs must be at least 1"),
            ({"early_stopping": "soon"}, "early_stopping must be an integer"),
            ({"early_stopping": True, "n_iter_no_change": 0}, "n_iter_no_change must be at least 1"),
            ({"early_stopping": True, "validation_fraction": 1.5}, "validation_fraction must be in [0, 1]"),
            ({"standardize": "yes"}, "standardize must be True or False"),
            ({"dtype": "float16"}, "dtype must be float32 or float64"),
            ({"random_state": "x"}, "'x' cannot be used to seed"),
        ],
        ids=str,
    )
    def test_wrong_settings_are_refused_when_fitted(self, digits, settings, message):
        net = small(**settings)
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            net.fit(*digits[:2])


class TestPartialFit:
    def test_epochs_one_by_one(self, digits):
        X, y, X_test, y_test = digits
        net = small(random_state=0).partial_fit(X, y, classes=np.arange(10))
        for _ in range(7):
            net.partial_fit(X, y)
        assert net.n_iter_ == len(net.loss_curve_) == 8
        assert net.score(X_test, y_test) > 0.9

    def test_keeps_the_optimizer_going(self, digits):
        X, y, *_ = digits
        net = small(batch_size=600, random_state=0).partial_fit(X, y, classes=np.arange(10))
        net.set_params(learning_rate=0.004).partial_fit(X, y)
        config = net._optim_configs["W1"]
        assert config["t"] == 2
        assert config["learning_rate"] == 0.004

    def test_settings_that_have_changed_count(self, digits):
        X, y, *_ = digits
        net = small(max_epochs=1, update_rule="adamw", weight_decay=0.1, random_state=0).fit(X, y)
        net.set_params(weight_decay=0.2, learning_rate=1e-4).partial_fit(X, y)
        config = net._optim_configs["W1"]
        assert (config["weight_decay"], config["learning_rate"]) == (0.2, 1e-4)
        assert config["t"] == 2 * -(-len(X) // net.batch_size)
        net.set_params(update_rule="sgd_momentum").partial_fit(X, y)
        assert "velocity" in net._optim_configs["W1"]

    def test_partial_fit_takes_settings_of_the_loss_as_they_are_now(self, digits):
        X, y, *_ = digits
        net = small(reg=0.5, label_smoothing=0.3, random_state=0).partial_fit(X, y, classes=range(10))
        net.set_params(reg=0.0, label_smoothing=None, learning_rate=1e-9).partial_fit(X, y)
        images = net.model_.preprocess(X.reshape(-1, 1, 8, 8))
        loss, _ = cnnlib.softmax_loss(net.model_.loss(images), y)
        assert net.loss_curve_[-1] == pytest.approx(loss, rel=0.1)  # but for the dropout

    def test_goes_on_behind_fit(self, digits):
        X, y, *_ = digits
        net = small(random_state=0).fit(X, y)
        before = net.model_.params["W1"].copy()
        assert net.partial_fit(X, y).n_iter_ == 4
        assert not np.array_equal(net.model_.params["W1"], before)
        assert net.fit(X, y).n_iter_ == 3

    def test_what_it_refuses(self, digits):
        X, y, *_ = digits
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            small().partial_fit(X, y)
        with pytest.raises(ValueError, match="y holds 9, which is not among the classes"):
            small().partial_fit(X, y, classes=np.arange(9))
        net = small().partial_fit(X, y, classes=np.arange(10))
        with pytest.raises(ValueError, match="are not those of the earlier calls"):
            net.partial_fit(X, y, classes=np.arange(11))
        assert not hasattr(small(early_stopping=True), "partial_fit")
        assert not hasattr(small(schedule="cosine"), "partial_fit")
        for name, value in (("spec", [{"conv": 9}, "relu"]), ("standardize", False), ("dtype", "float64")):
            was, changed = getattr(net, name), pickle.loads(pickle.dumps(net)).set_params(**{name: value})
            with pytest.raises(ValueError, match=re.escape(f"{name} was {was!r} when the network was made")):
                changed.partial_fit(X, y)
            assert changed.set_params(**{name: was}).partial_fit(X, y).n_iter_ == 2


@pytest.mark.parametrize("kind", [ConvNetClassifier, ConvNetRegressor])
def test_what_a_mask_hides_is_refused(kind, digits):
    """scikit-learn takes it as if there were no mask."""
    X, y, *_ = digits
    net = kind(SPEC, (1, 8, 8), max_epochs=1)
    hidden = np.ma.masked_greater(X, 8)
    images = hidden.reshape(-1, 1, 8, 8)
    for name, call in (
        ("X", lambda: net.fit(hidden, y)),
        ("X", lambda: net.fit(images, y)),
        ("y", lambda: net.fit(X, np.ma.masked_greater(y, 8))),
        ("X", lambda: net.fit(X, y).predict(images)),
    ):
        with pytest.raises(ValueError, match=f"^{kind.__name__}: {name} has masked values"):
            call()
    assert len(net.predict(np.ma.array(X[:3]))) == 3


class TestAmongOthers:
    def test_grid_search_in_two_processes(self, digits):
        X, y, X_test, y_test = digits
        search = GridSearchCV(
            small(random_state=0),
            {"learning_rate": [1e-5, 0.01], "spec": [SPEC, [{"affine": 20}, "relu"]]},
            cv=2,
            n_jobs=2,
            error_score="raise",
        )
        search.fit(X, y)
        assert search.best_params_["learning_rate"] == 0.01
        assert search.score(X_test, y_test) > 0.8
        alone = clone(search.best_estimator_).fit(X, y)
        assert np.array_equal(alone.predict_proba(X_test), search.predict_proba(X_test))
        threads = joblib.Parallel(n_jobs=2)(joblib.delayed(cnnlib.get_num_threads)() for _ in range(2))
        assert max(threads) <= max(joblib.cpu_count() // 2, 1)

    def test_pipeline(self, digits):
        X, y, *_ = digits
        pipeline = make_pipeline(MinMaxScaler(), small(random_state=0))
        assert cross_val_score(pipeline, X, y, cv=3, error_score="raise").min() > 0.7
        pipeline.set_params(convnetclassifier__max_epochs=1).fit(X, y)
        assert pipeline[-1].n_iter_ == 1

    def test_calibration(self, digits):
        X, y, X_test, y_test = digits
        calibrated = CalibratedClassifierCV(small(random_state=0), cv=2, method="sigmoid").fit(X, y)
        proba = calibrated.predict_proba(X_test)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        assert calibrated.score(X_test, y_test) > 0.8

    def test_clone_is_unfitted_and_equal(self, digits):
        net = small(random_state=0, n_iter_no_change=4).fit(*digits[:2])
        copy = clone(net)
        assert copy.get_params() == net.get_params()
        with pytest.raises(NotFittedError):
            copy.predict(digits[2])
        assert np.array_equal(copy.fit(*digits[:2]).predict_proba(digits[2]), net.predict_proba(digits[2]))

    def test_pickling(self, digits):
        X, y, X_test, _ = digits
        net = small(random_state=0).fit(X, y)
        copy = pickle.loads(pickle.dumps(net))
        assert np.array_equal(copy.predict_proba(X_test), net.predict_proba(X_test))
        for each in (net, copy):
            each.partial_fit(X, y)
        assert np.array_equal(copy.predict_proba(X_test), net.predict_proba(X_test))

    @pytest.mark.parametrize("shape", [(1, 8, 8), None])
    def test_the_network_can_be_saved(self, digits, tmp_path, shape):
        X, y, X_test, _ = digits
        net = small(image_shape=shape, random_state=0).fit(X, y)
        net.model_.save(tmp_path / "net.npz")
        loaded = cnnlib.load(tmp_path / "net.npz")
        assert loaded.classes == tuple("0123456789")
        scores = loaded.loss(loaded.preprocess(X_test.reshape(-1, *net.image_shape_)))
        assert np.array_equal(scores.argmax(axis=1), net.predict(X_test))

    def test_without_scikit_learn_the_import_names_the_extra(self):
        code = "import sys; sys.modules['sklearn'] = None; import cnnlib; print('ok'); cnnlib.sklearn"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert result.returncode == 1
        assert result.stdout == "ok\n"
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith(
            "ImportError: cnnlib.sklearn needs scikit-learn 1.6 or later: pip install cnnlib["
        )

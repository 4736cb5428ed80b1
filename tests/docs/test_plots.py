"""The pictures: what is drawn where, without a display."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from cnnlib import plots

pytest.importorskip("matplotlib", reason="cnnlib.plots draws with matplotlib")


@pytest.fixture
def ax():
    from matplotlib.figure import Figure

    figure = Figure()
    yield figure.subplots()
    figure.canvas.draw()  # whatever was put there can be drawn


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: plots.plot_loss(None), "loss_history must be numbers with 1 axis, got a NoneType"),
        (lambda: plots.plot_loss([[1.0]]), r"loss_history must be numbers with 1 axis, got shape \(1, 1\)"),
        (lambda: plots.plot_accuracy([0.1], "b"), "val_acc_history must be numbers with 1 axis, got a str"),
        (lambda: plots.plot_metric([1], [2], "r2", 5), "best_epoch is 5, val_history has 1 epochs"),
        (lambda: plots.plot_filters(np.ones((3, 3))), r"weights must be .* 4 axes, got shape \(3, 3\)"),
        (lambda: plots.plot_confusion_matrix([0, 5], [1, 1], "ab"), "y_true must be integers from 0 to 1"),
        (lambda: plots.plot_confusion_matrix([0, 1], [0.0, 1.0]), "y_pred must be integers .* got float64"),
        (lambda: plots.plot_confusion_matrix([0, 1, 1], [1, 1]), "3 labels in y_true, 2 in y_pred"),
        (
            lambda: plots.plot_confusion_history([0, 1], [[1, 7]], classes="ab"),
            "predictions must be integers",
        ),
        (lambda: plots.plot_mistakes(np.ones((2, 1, 4, 4)), [0, 1], [1, 1]), "scores must be .* 2 axes"),
        (lambda: plots.plot_mistakes(np.ones((1, 1, 4, 4)), [0], np.eye(1, 3), "a"), "1 classes for scores"),
        (lambda: plots.plot_mistakes(np.ones((2, 1, 4, 4)), [0], np.eye(1, 3)), "do not belong together"),
    ],
)
def test_what_cannot_be_drawn_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


class TestCurves:
    def test_loss_in_epochs_with_centred_mean(self, ax):
        loss = [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]
        assert plots.plot_loss(loss, 2, ax=ax) is ax
        raw, mean = ax.lines
        np.testing.assert_allclose(raw.get_xydata(), np.column_stack([np.arange(1, 7) / 2, loss]))
        np.testing.assert_allclose(mean.get_xydata()[0], [0.75, 3.5])
        np.testing.assert_allclose(mean.get_xydata()[-1], [2.75, 1.0])
        assert ax.get_xlabel() == "epoch"

    def test_validation_loss_without_the_untrained_model(self, ax):
        plots.plot_loss([2.0, 1.0, 0.5, 0.4], 2, ax=ax, val_loss_history=[1e16, 1.5, 0.7])
        np.testing.assert_allclose(ax.lines[-1].get_xydata(), [[1, 1.5], [2, 0.7]])
        assert ax.get_ylim()[1] < 3
        with pytest.raises(ValueError, match="val_loss_history needs iterations_per_epoch"):
            plots.plot_loss([2.0, 1.0], ax=ax, val_loss_history=[1.5, 0.7])

    def test_huge_first_losses_get_a_log_scale(self, ax):
        plots.plot_loss([1e4, 50.0] + [1.0] * 50, ax=ax)
        assert ax.get_yscale() == "log"
        assert ax.get_xlabel() == "iteration"

    def test_losses_below_zero_are_in_the_picture(self, ax):
        plots.plot_loss([0.5, -1.0, -2.0], 1, ax=ax, val_loss_history=[0.0, -1.5, -3.0])
        assert ax.get_ylim()[0] < -3.0

    @pytest.mark.parametrize("loss", [[], [2.3], [0.0, 0.0]])
    def test_short_histories(self, ax, loss):
        plots.plot_loss(loss, ax=ax)
        plots.plot_loss(loss, 1, ax=ax)
        assert ax.get_yscale() == "linear"
        assert ax.get_ylim()[0] == 0

    def test_accuracy_marks_the_first_best(self, ax):
        assert plots.plot_accuracy([0.1, 0.5, 0.7], [0.1, 0.6, 0.6], ax=ax) is ax
        training, validation, best = ax.lines
        np.testing.assert_allclose(training.get_ydata(), [10, 50, 70])
        np.testing.assert_allclose(validation.get_ydata(), [10, 60, 60])
        assert best.get_label() == "best: 60.0 % (epoch 1)"
        assert (best.get_xdata()[0], best.get_ydata()[0]) == (1, 60)

    @pytest.mark.parametrize("train", [[0.1, 0.5, 0.6], []])
    def test_high_accuracies_are_told_apart(self, ax, train):
        plots.plot_accuracy(train, [0.0, 0.97, 0.98, 0.995, 1.0], ax=ax)
        assert {"95", "98", "99", "99.5", "100"} <= {label.get_text() for label in ax.get_yticklabels()}
        place = ax.transAxes.inverted().transform(ax.transData.transform([(0, 98), (0, 99), (0, 100)]))[:, 1]
        assert place[2] < 1
        assert place[1] - place[0] > 0.08
        assert place[2] - place[0] > 0.3
        scale = ax.yaxis.get_transform()
        np.testing.assert_allclose(
            scale.inverted().transform(scale.transform([0, 55.5, 98, 100])), [0, 55.5, 98, 100], atol=1e-9
        )

    def test_lower_ones_have_a_linear_axis(self, ax):
        plots.plot_accuracy([0.1, 0.949], [0.1, 0.6], ax=ax)
        assert (ax.get_yscale(), ax.get_ylim()) == ("linear", (0, 102))


class TestFilters:
    def test_each_filter_uses_the_whole_range(self, rng):
        weights = rng.standard_normal((5, 3, 4, 2)) * 10.0 ** np.arange(5)[:, None, None, None]
        grid = plots.image_grid(weights)
        assert grid.shape == (2 * 5 - 1, 3 * 3 - 1, 3)
        for n in range(5):
            top, left = n // 3 * 5, n % 3 * 3
            tile = grid[top : top + 4, left : left + 2]
            span = weights[n].max() - weights[n].min()
            np.testing.assert_allclose(tile, (weights[n].transpose(1, 2, 0) - weights[n].min()) / span)
        assert (grid[4] == 1).all()  # the white line between the rows
        assert (grid[5:, 6:] == 1).all()  # the place that no filter takes

    @pytest.mark.parametrize("count", [1, 5, 7])
    def test_white_and_black_edges_are_seen(self, ax, count):
        """The ground is neither, and each filter has a frame around its pixels."""
        weights = np.zeros((count, 1, 3, 4))
        weights[:, :, 0], weights[:, :, 2] = 1, -1
        plots.plot_filters(weights, ax=ax)
        (image,), (frames,) = ax.images, ax.collections
        columns = int(np.ceil(np.sqrt(count)))
        pixels, ground = image.get_array(), np.ones(image.get_array().shape[:2], bool)
        assert len(frames.get_paths()) == count
        for n, path in enumerate(frames.get_paths()):
            top, left = n // columns * 4, n % columns * 5
            corners = path.vertices[:4]
            assert (corners.min(axis=0) == (left - 0.5, top - 0.5)).all()
            assert (corners.max(axis=0) == (left + 3.5, top + 2.5)).all()
            assert (pixels[top, left : left + 4] == 1).all()
            assert (pixels[top + 2, left : left + 4] == 0).all()
            ground[top : top + 3, left : left + 4] = False
        for colour in pixels[ground]:
            assert 0.1 < colour.min() < colour.max() - 0.1 < 0.9
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert left < -0.5 < pixels.shape[1] - 0.5 < right
        assert top < -0.5 < pixels.shape[0] - 0.5 < bottom

    def test_other_channels_are_averaged_to_grey(self):
        weights = np.zeros((1, 2, 1, 3))
        weights[0, 0], weights[0, 1] = [[0, 1, 4]], [[0, 3, 4]]
        np.testing.assert_allclose(plots.image_grid(weights, padding=0)[0], [[0] * 3, [0.5] * 3, [1] * 3])

    def test_channels_last_are_known_where_they_must_be(self, rng):
        images = rng.random((3, 5, 4, 3))
        channels_first = images.transpose(0, 3, 1, 2)
        want = plots.image_grid(channels_first)
        np.testing.assert_array_equal(plots.image_grid(images), want)
        np.testing.assert_array_equal(plots.image_grid(images, layout="NHWC"), want)
        np.testing.assert_array_equal(plots.image_grid(channels_first, layout="NCHW"), want)
        assert plots.image_grid(images, layout="NCHW").shape == (2 * 5 - 1, 2 * 4 - 1, 3)

    @pytest.mark.parametrize("shape", [(2, 16, 3, 3), (2, 8, 1, 3), (2, 3, 5, 3), (2, 16, 1, 1)])
    def test_small_filters_are_no_images(self, shape, rng):
        weights = rng.random(shape)
        np.testing.assert_array_equal(plots.image_grid(weights), plots.image_grid(weights, layout="NCHW"))

    def test_layout_is_checked(self):
        with pytest.raises(ValueError, match="image_grid: layout must be 'NCHW', 'NHWC' or None, got 'HWC'"):
            plots.image_grid(np.zeros((1, 2, 2, 3)), layout="HWC")

    def test_constant_image_is_black_not_nan(self):
        assert (plots.image_grid(np.full((1, 1, 2, 2), 7.0)) == 0).all()

    @pytest.mark.parametrize("shape", [(0, 3, 5, 5), (3, 5, 5)])
    def test_shape_is_checked(self, shape):
        with pytest.raises(ValueError, match=r"image_grid: images must be \(N, C, H, W\) or \(N, H, W, C\)"):
            plots.image_grid(np.zeros(shape))

    def test_only_the_first_are_drawn(self, ax, rng):
        assert plots.plot_filters(rng.standard_normal((70, 3, 5, 5)), ax=ax) is ax
        assert ax.images[0].get_array().shape == (8 * 6 - 1, 8 * 6 - 1, 3)
        assert ax.get_title() == "First-layer filters (64 of 70)"


class TestConfusion:
    def test_counts_stand_in_their_cells(self, ax):
        plots.plot_confusion_matrix([0, 0, 0, 1, 2], [0, 0, 2, 1, 2], ["cat", "dog", "frog"], ax=ax)
        counts = {text.get_position(): text.get_text() for text in ax.texts}
        assert counts == {(0, 0): "2", (2, 0): "1", (1, 1): "1", (2, 2): "1"}  # (predicted, true)
        assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "frog"]
        assert ax.get_title() == "4 of 5 right (80.0 %)"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true class")

    def test_long_names_leave_room_for_the_matrix(self, ax):
        plots.plot_confusion_matrix(
            [0, 1], [0, 1], ["twenty characters it", "a name of many words that goes on"], ax=ax
        )
        expected = ["twenty characters it", "a name of many word…"]
        assert [label.get_text() for label in ax.get_yticklabels()] == expected
        assert [label.get_text() for label in ax.get_xticklabels()] == expected

    def test_classes_without_samples_or_names(self, ax):
        plots.plot_confusion_matrix([0, 3], [0, 0], ax=ax)
        assert ax.images[0].get_array().shape == (4, 4)
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2", "3"]


class TestMistakes:
    SCORES = np.array([[0.0, 3.0], [5.0, 0.0], [0.0, 1.0], [0.0, 9.0]])

    def test_surest_first(self):
        images = np.arange(4)[:, None, None, None] + np.zeros((4, 1, 2, 2))
        images[:, 0, 0, 0] = -1
        figure = plots.plot_mistakes(images, [0, 0, 0, 0], self.SCORES, ["cat", "dog"], max_images=2)
        assert figure.get_suptitle() == "3 of 4 wrong, the 2 surest"
        assert [ax.get_title() for ax in figure.axes] == [
            "seen: dog, 100 %\ntrue: cat",
            "seen: dog, 95 %\ntrue: cat",
        ]
        assert figure.axes[0].images[0].get_array().shape == (2, 2, 3)
        figure.canvas.draw()

    def test_long_names_keep_out_of_each_other_s_way(self):
        names = ["golden retriever", "Scottish deerhound"]
        scores = np.tile([[9.0, 0.0]], (25, 1))
        figure = plots.plot_mistakes(np.zeros((25, 1, 2, 2)), np.ones(25, int), scores, names)
        assert figure.axes[0].get_title() == "seen: golden retrie…, 100 %\ntrue: Scottish deer…"
        figure.canvas.draw()
        boxes = [ax.title.get_window_extent() for ax in figure.axes[:5]]
        for left, right in itertools.pairwise(boxes):
            assert left.x1 < right.x0

    def test_none_wrong(self):
        figure = plots.plot_mistakes(np.zeros((4, 3, 2, 2)), [1, 0, 1, 1], self.SCORES)
        assert figure.get_suptitle() == "None of 4 wrong"
        assert not figure.axes


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_new_figures_are_those_of_pyplot():
    """So a notebook shows them; and no display is needed."""
    done = run_python(
        "import matplotlib.pyplot as plt; from cnnlib import plots\n"
        "ax = plots.plot_accuracy([0, 1], [0, 1]); assert ax.figure is plt.gcf()\n"
        "print(len(plt.get_fignums()))"
    )
    assert done.stdout == "1\n", done.stderr


def test_without_matplotlib_the_message_says_what_to_install():
    done = run_python(
        "import sys; sys.modules['matplotlib'] = None\nfrom cnnlib import plots\nplots.plot_loss([1.0])"
    )
    assert "ImportError: cnnlib.plots needs matplotlib: pip install cnnlib[plots]" in done.stderr

"""The pictures that look into a network: maps over images, patches, adversarial changes, times."""

import itertools

import numpy as np
import pytest
from cnnlib import plots

pytest.importorskip("matplotlib", reason="cnnlib.plots draws with matplotlib")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def drawn(axes):
    """The arrays that an axes' images show."""
    return [np.asarray(image.get_array()) for image in axes.images]


class TestAttributions:
    def test_a_gradient_is_drawn_with_its_sign(self, rng):
        images, gradients = rng.random((3, 3, 4, 5)), rng.standard_normal((3, 3, 4, 5))
        fig = plots.plot_attributions(images, gradients, ["a", "b", "$c_$"])
        assert [ax.get_title() for ax in fig.axes[:3]] == ["a", "b", "$c_$"]
        for above, below, image, gradient in zip(fig.axes[:3], fig.axes[3:], images, gradients, strict=True):
            (shown,) = drawn(above)
            span = image.max() - image.min()
            np.testing.assert_allclose(shown, (image.transpose(1, 2, 0) - image.min()) / span)
            pale, value = drawn(below)
            assert (pale >= shown - 1e-12).all()
            np.testing.assert_allclose(value, gradient.sum(axis=0))
            limit = np.abs(gradient.sum(axis=0)).max()
            over = below.images[1]
            assert over.get_cmap().name == "RdBu"
            assert over.get_clim() == (-limit, limit)
            np.testing.assert_allclose(over.get_alpha(), 0.9 * np.abs(value) / limit)
        fig.canvas.draw()

    def test_a_small_map_covers_its_image(self, rng):
        fig = plots.plot_attributions(rng.random((1, 1, 8, 6)), rng.random((1, 4, 3)))
        pale, over = fig.axes[1].images
        assert list(over.get_extent()) == list(pale.get_extent()) == [-0.5, 5.5, 7.5, -0.5]
        assert over.get_cmap().name == "Purples"
        assert over.get_clim()[0] == 0
        fig.canvas.draw()

    def test_nothing_matters(self):
        plots.plot_attributions(np.zeros((2, 1, 4, 4)), np.zeros((2, 4, 4))).canvas.draw()

    @pytest.mark.parametrize("shape", [(2, 4), (3, 4, 4), (0, 4, 4), (3, 1, 4, 4)])
    def test_other_maps_are_refused(self, shape):
        count = 2 if shape[0] else 0
        with pytest.raises(ValueError, match=r"plot_attributions: maps must be \(N, h, w\)"):
            plots.plot_attributions(np.zeros((count, 1, 4, 4)), np.zeros(shape))


class TestAdversarial:
    def test_before_change_after(self, rng):
        images = rng.random((2, 1, 4, 4))
        changed = images + np.reshape([0.1, -0.2], (2, 1, 1, 1))
        scores, after = [[0, np.log(3)], [np.log(9), 0]], [[np.log(4), 0], [0, np.log(4)]]
        fig = plots.plot_adversarial(images, changed, scores, after, classes=("golden retriever", "cat"))
        titles = [ax.get_title() for ax in fig.axes]
        assert titles == ["cat: 75 %", "golden ret…: 90 %", "", "", "golden ret…: 80 %", "cat: 80 %"]
        for ax, value in zip(fig.axes[2:4], (0.1, -0.2), strict=True):
            np.testing.assert_allclose(drawn(ax)[0], value)
            np.testing.assert_allclose(ax.images[0].get_clim(), (-0.2, 0.2))  # the same for all
        low, high = images[0].min(), images[0].max()
        want = np.clip((changed[0, 0] - low) / (high - low), 0, 1)
        np.testing.assert_allclose(drawn(fig.axes[4])[0][:, :, 1], want)  # the range of the first image
        fig.canvas.draw()
        boxes = [ax.title.get_window_extent() for ax in fig.axes[:2]]
        assert boxes[0].x1 < boxes[1].x0

    def test_shapes_that_differ_are_refused(self):
        with pytest.raises(ValueError, match="plot_adversarial: images and changed must be"):
            plots.plot_adversarial(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 5)), [[0, 1]], [[0, 1]])


class TestPatches:
    def test_patches_lie_apart_in_rows(self, rng):
        patches = rng.random((2, 3, 1, 4, 6))
        fig = plots.plot_patches(patches, labels=["edge", "dot"])
        assert [ax.get_ylabel() for ax in fig.axes] == ["edge", "dot"]
        for ax, row in zip(fig.axes, patches, strict=True):
            (strip,) = drawn(ax)
            scale, gap = 12, 4
            assert strip.shape == (4 * scale + 2 * gap, 3 * (6 * scale + gap) + gap, 3)
            for n, patch in enumerate(row):
                left = gap + n * (6 * scale + gap)
                shown = strip[gap:-gap:scale, left : left + 6 * scale : scale, 0]
                np.testing.assert_allclose(shown, (patch[0] - row.min()) / (row.max() - row.min()))
            assert (strip[0] == strip[0, 0]).all()
            assert (strip[:, :gap] == strip[0, 0]).all()
        fig.canvas.draw()

    @pytest.mark.parametrize("shape", [(3, 1, 4, 4), (0, 2, 1, 4, 4), (2, 0, 1, 4, 4)])
    def test_other_arrays_are_refused(self, shape):
        with pytest.raises(ValueError, match="plot_patches: patches must be"):
            plots.plot_patches(np.zeros(shape))


class TestConfusionHistory:
    def test_a_matrix_for_each_time(self):
        y = np.array([0, 0, 1, 1, 1, 1])
        predictions = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 2]]
        fig = plots.plot_confusion_history(y, predictions, classes=("a", "b", "c"))
        assert [ax.get_title() for ax in fig.axes] == ["epoch 1: 33 %", "epoch 2: 67 %"]
        first, second = (drawn(ax)[0] for ax in fig.axes)
        np.testing.assert_allclose(first, [[1, 0, 0], [1, 0, 0], [0, 0, 0]])
        np.testing.assert_allclose(second**2, [[0.5, 0.5, 0], [0, 0.75, 0.25], [0, 0, 0]])
        assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["a", "b", "c"]
        assert not fig.axes[1].get_yticklabels()
        fig.canvas.draw()

    def test_many_times_take_several_rows(self):
        fig = plots.plot_confusion_history([0, 1], np.zeros((7, 2), int))
        fig.canvas.draw()
        tops = [round(ax.get_position().y1, 3) for ax in fig.axes]
        assert len(set(tops[:5])) == len(set(tops[5:])) == 1
        assert tops[0] > tops[5]
        boxes = [ax.title.get_window_extent() for ax in fig.axes[:5]]
        for left, right in itertools.pairwise(boxes):
            assert left.x1 < right.x0

    def test_refusals(self):
        for predictions in ([0, 1], np.zeros((2, 3), int), np.zeros((0, 2), int)):
            with pytest.raises(ValueError, match=r"plot_confusion_history: predictions must be \(E, 2\)"):
                plots.plot_confusion_history([0, 1], predictions)
        with pytest.raises(ValueError, match="1 titles for 2 times"):
            plots.plot_confusion_history([0, 1], np.zeros((2, 2), int), titles=["one"])


class TestProfile:
    PROFILE = (("conv 16 3x3", 2e-3, 6e6), ("max_pool", 1e-3, 0.0), ("affine 10", 1e-3, 1e6))

    def test_bars_in_the_order_of_the_steps(self):
        ax = plots.plot_profile(self.PROFILE)
        assert ax.get_title() == "Time by layer: 4.00 ms"
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [2, 1, 1])
        assert [label.get_text() for label in ax.get_yticklabels()] == [name for name, *_ in self.PROFILE]
        assert [text.get_text() for text in ax.texts] == ["50 %, 3 Gop/s", "25 %", "25 %, 1 Gop/s"]
        assert ax.yaxis_inverted()  # the first step on top
        ax.figure.canvas.draw()
        right = ax.get_window_extent().x1
        assert all(text.get_window_extent().x1 <= right for text in ax.texts)

    def test_the_shortest_of_many_are_one_bar(self):
        steps = [(f"step {n}", seconds, 0.0) for n, seconds in enumerate([1.0, 4.0, 2.0, 3.0, 0.5])]
        ax = plots.plot_profile(steps, max_steps=3)
        assert [label.get_text() for label in ax.get_yticklabels()] == ["step 1", "step 3", "3 others"]
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], [4000, 3000, 3500])

    def test_of_a_predictor(self):
        import cnnlib
        from cnnlib.models import ConvNet

        predictor = cnnlib.prepare(ConvNet("resnet8", (3, 16, 16), 10, seed=0))
        profile = predictor.profile(np.zeros((1, 3, 16, 16), np.float32), repeats=1)
        assert len(plots.plot_profile(profile).patches) == len(profile)

    def test_refusals(self):
        for profile, most in (((), 5), (self.PROFILE, 0)):
            with pytest.raises(ValueError, match="plot_profile: needs a profile with steps and max_steps"):
                plots.plot_profile(profile, most)
        plots.plot_profile([("nothing", 0.0, 0.0)]).figure.canvas.draw()

import json

import numpy as np
import pytest
from cnnlib.augment import (
    AUGMENTATIONS,
    AlternatingFlip,
    Cutout,
    HorizontalFlip,
    RandomCrop,
    Samples,
    averaged_scores,
    build_augmentation,
    describe_augmentation,
)
from training import LinearModel, digits_like, quiet_solver

ALL = [HorizontalFlip(), RandomCrop(2), RandomCrop(2, "reflect"), Cutout(3)]


@pytest.fixture
def X(rng):
    return rng.standard_normal((40, 2, 6, 5)) + 10  # no zeros


@pytest.mark.parametrize("augmentation", ALL, ids=str)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_makes_new_images_and_leaves_the_old_ones(augmentation, kind, X):
    X = X.astype(kind)
    before = X.copy()
    out = augmentation(X, np.random.default_rng(0))
    assert out.dtype == kind
    assert out.shape == X.shape
    assert out.flags.c_contiguous
    assert not np.shares_memory(out, X)
    np.testing.assert_array_equal(X, before)
    assert (out != X).any()
    np.testing.assert_array_equal(augmentation(X, np.random.default_rng(0)), out)
    assert (augmentation(X, np.random.default_rng(1)) != out).any()


def test_flip(X):
    out = HorizontalFlip()(X, np.random.default_rng(0))
    flipped = [np.array_equal(image, old[:, :, ::-1]) for image, old in zip(out, X, strict=True)]
    kept = [np.array_equal(image, old) for image, old in zip(out, X, strict=True)]
    assert np.logical_xor(flipped, kept).all()
    assert 10 < sum(flipped) < 30
    np.testing.assert_array_equal(HorizontalFlip(1.0)(X, np.random.default_rng(0)), X[:, :, :, ::-1])
    np.testing.assert_array_equal(HorizontalFlip(0.0)(X, np.random.default_rng(0)), X)


def flips(X, rows, epoch, seed=5):
    """Which of the images AlternatingFlip mirrors; the others have to stay as they are."""
    out = AlternatingFlip()(X, np.random.default_rng(epoch), Samples(rows, epoch, seed))
    flipped = np.array([np.array_equal(image, old[:, :, ::-1]) for image, old in zip(out, X, strict=True)])
    kept = np.array([np.array_equal(image, old) for image, old in zip(out, X, strict=True)])
    assert np.logical_xor(flipped, kept).all()
    return flipped


def test_alternating_flip(X):
    before, rows = X.copy(), np.arange(40) + 7
    first = flips(X, rows, 0)
    assert 10 < first.sum() < 30
    np.testing.assert_array_equal(flips(X, rows, 1), ~first)
    np.testing.assert_array_equal(flips(X, rows, 4), first)
    order = np.random.default_rng(2).permutation(40)  # the sample decides, not its place in the minibatch
    np.testing.assert_array_equal(flips(X[order], rows[order], 0), first[order])
    assert (flips(X, rows, 0, seed=6) != first).any()
    np.testing.assert_array_equal(X, before)


def test_the_solver_says_which_samples_these_are():
    data = digits_like()
    data["X_train"] = np.arange(60)[:, None, None, None] * np.full((1, 6, 6), 1e-3)
    seen = []

    class Note:
        knows_samples = True

        def __call__(self, X, rng, samples):
            np.testing.assert_array_equal(np.rint(1e3 * X[:, 0, 0, 0]), samples.rows)
            seen.append((samples.epoch, samples.seed, *samples.rows))
            return X

    quiet_solver(LinearModel(36, 4), data, num_epochs=3, augment=["alternating-flip", Note()], seed=0).train()
    assert [epoch for epoch, *_ in seen] == [0] * 4 + [1] * 4 + [2] * 4
    assert len({seed for _, seed, *_ in seen}) == 1
    for epoch in range(3):
        assert sorted(row for place, _, *rows in seen if place == epoch for row in rows) == list(range(60))


def test_averaged_scores(X):
    def scores_of(images):
        assert images.flags.c_contiguous
        return images[:, 0, :2, 1] ** 2

    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    views = [X, padded[:, :, :-2, :-2], padded[:, :, 2:, 2:]]
    mirrored = [(view[:, 0, :2, 1] ** 2 + view[:, 0, :2, -2] ** 2) / 2 for view in views]
    np.testing.assert_array_equal(averaged_scores(scores_of, X), scores_of(X))
    np.testing.assert_allclose(averaged_scores(scores_of, X, "mirror"), mirrored[0], rtol=1e-12)
    want = mirrored[0] / 2 + (mirrored[1] + mirrored[2]) / 4
    np.testing.assert_allclose(averaged_scores(scores_of, X, "mirror-shift"), want, rtol=1e-12)
    with pytest.raises(ValueError, match="tta must be one of 'mirror', 'mirror-shift', got 'mirrors'"):
        averaged_scores(scores_of, X, "mirrors")
    with pytest.raises(ValueError, match="X must be images"):
        averaged_scores(scores_of, X[0], "mirror")
    for tta in ("mirror", "mirror-shift"):  # of which one would lie on the other's mirror image
        with pytest.raises(
            ValueError, match=r"tta wants scores \(N, K\), got .*maps would not be turned back"
        ):
            averaged_scores(lambda images: images, X, tta)


def test_the_solver_averages_scores():
    """A model that is right about the mirror image alone, and surer then."""
    model = LinearModel(36, 4)
    model.loss = lambda X, y=None: np.eye(4)[[3, 0]][(X[:, 0, 0, 0] > 0).astype(int)] * (1 + X[:, 0, :1, 0])
    X = np.zeros((5, 1, 6, 6))
    X[:, 0, 0, -1] = 1
    solver = quiet_solver(model, digits_like())
    y = np.zeros(5, int)
    assert solver.check_accuracy(X, y) == 0
    assert solver.check_accuracy(X, y, tta="mirror", batch_size=2) == 1


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crop(mode, X):
    out = RandomCrop(2, mode)(X, np.random.default_rng(0))
    padded = np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)), mode=mode)
    places = set()
    for n in range(len(X)):
        found = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(out[n], padded[n, :, i : i + 6, j : j + 5])
        ]
        assert len(found) == 1
        places.update(found)
    assert {i for i, _ in places} == {j for _, j in places} == set(range(5))
    assert len(places) > 12


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_larger_targets_are_mirrored_where_their_images_are(scale, X):
    """Beyond an edge a pixel is the mirror image of another, and so is its square of the target."""
    inside = np.arange(1.0, scale + 1)  # what tells a square from its mirror images
    y = np.kron(X, np.ones((scale, scale))) + 1e-3 * np.tile(inside * inside[:, None], X.shape[2:])
    crop = RandomCrop(3, "reflect")
    small, large = crop.pair(X, y, np.random.default_rng(0))
    squares = large.reshape(*small.shape[:3], scale, small.shape[3], scale)
    np.testing.assert_allclose(squares.mean((3, 5)) - small, 1e-3 * inside.mean() ** 2, rtol=1e-9)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_signals_are_cropped_along_their_row_alone(mode, X):
    row, upright = X[:, :, :1], X.transpose(0, 1, 3, 2)[:, :, :, :1]
    out = RandomCrop(2, mode)(row, np.random.default_rng(0))
    padded = np.pad(row, ((0, 0), (0, 0), (0, 0), (2, 2)), mode=mode)
    places = [
        [j for j in range(5) if np.array_equal(out[n], padded[n, :, :, j : j + 5])] for n in range(len(X))
    ]
    assert all(places)
    assert {found[0] for found in places} == set(range(5))
    turned = RandomCrop(2, mode).pair(upright, upright, np.random.default_rng(0))
    assert np.array_equal(*turned)
    assert turned[0].any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("size", [1, 3, 4])
def test_cutout(size, X):
    out = Cutout(size, fill=-7)(X, np.random.default_rng(0))
    blank = out == -7
    assert (blank == blank[:, :1]).all()  # the same pixels in every channel
    np.testing.assert_array_equal(out[~blank], X[~blank])
    tops = set()
    for mask in blank[:, 0]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)  # a rectangle
        assert size - size // 2 <= len(rows) <= size
        assert size - size // 2 <= len(columns) <= size
        tops.add(rows[0])
    assert len(tops) > 3


def test_by_name_and_back():
    described = describe_augmentation(build_augmentation(["flip", {"name": "crop", "pad": 3}, Cutout(5)]))
    assert described == [
        {"name": "flip", "p": 0.5},
        {"name": "crop", "pad": 3, "mode": "constant", "target_fill": 0.0},
        {"name": "cutout", "size": 5, "fill": 0.0},
    ]
    assert [AUGMENTATIONS.build(item) for item in json.loads(json.dumps(described))] == [
        HorizontalFlip(),
        RandomCrop(3),
        Cutout(5),
    ]


def test_a_list_is_applied_in_turn(X):
    chain = build_augmentation(["flip", lambda X, rng: X + rng.integers(5), {"name": "cutout", "size": 2}])
    rng = np.random.default_rng(3)
    want = Cutout(2)(HorizontalFlip()(X, rng) + rng.integers(5), rng)
    np.testing.assert_array_equal(chain(X, np.random.default_rng(3)), want)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("flop", ValueError, "unknown augmentation 'flop'; did you mean 'flip'"),
        ({"name": "crop", "padding": 2}, ValueError, "unknown key 'padding' in crop; did you mean 'pad'"),
        ({"name": "crop", "pad": 0}, ValueError, "pad must be at least 1"),
        ({"name": "crop", "mode": "wrap"}, ValueError, "mode must be one of"),
        (["flip", 3], TypeError, "augmentation must be a name"),
        ({"name": "flip", "p": 2}, ValueError, "p must be"),
        ({"name": "cutout", "size": 1.5}, TypeError, "size must be an integer"),
    ],
)
def test_refuses(value, error, message):
    with pytest.raises(error, match=message):
        quiet_solver(LinearModel(36, 4), digits_like(), augment=value)


def test_refuses_what_is_no_image():
    with pytest.raises(ValueError, match=r"AlternatingFlip: X must be images"):
        AlternatingFlip()(np.zeros((3, 36)), None, Samples(np.arange(3), 0, 0))
    for augmentation in ALL:
        with pytest.raises(ValueError, match=r"X must be images \(N, C, H, W\), got shape \(3, 36\)"):
            augmentation(np.zeros((3, 36)), np.random.default_rng(0))
    with pytest.raises(ValueError, match="pad 5 is too much"):
        RandomCrop(5, "reflect")(np.zeros((3, 1, 6, 5)), np.random.default_rng(0))
    solver = quiet_solver(LinearModel(36, 4), digits_like(), augment=lambda X, rng: X[:, :, :3])
    with pytest.raises(ValueError, match="augment made images of shape"):
        solver.train()

"""The embedded handwritten digits."""

from pathlib import Path

import numpy as np

_DIGITS_VAL_SHARE, _DIGITS_TEST_SHARE = 0.10, 0.20


def load_digits() -> dict[str, np.ndarray]:
    """Load 1,797 real images of handwritten digits, embedded in the package.

    The split is fixed and stratified: of each digit's images, shuffled once and for all, a fifth is
    held out for testing, a tenth for validation, and the rest is for training. It does not follow the
    writers: one person's digits may stand in all three parts. Each part begins with fewer classes than it has
    (the first 156 training images hold no zero), so draw a small subset at random.

    Returns
    -------
    dict
        ``X_train`` (1263, 1, 8, 8), ``X_val`` (179, 1, 8, 8) and ``X_test`` (355, 1, 8, 8): float32 in
        [0, 1], 0 is blank paper and 1 a full stroke (the published counts 0..16 divided by 16; no mean
        is subtracted). ``y_train``, ``y_val``, ``y_test``: int64 labels 0..9, ``(N,)``.

    Notes
    -----
    The test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine
    Learning Repository (1998), doi:10.24432/C50P49, CC BY 4.0; see ``digits.LICENSE.txt`` beside the data.

    Examples
    --------
    >>> data = load_digits()
    >>> data["X_train"].shape, data["y_train"][:5], float(data["X_train"].max())
    ((1263, 1, 8, 8), array([8, 8, 6, 8, 8]), 1.0)
    """
    with np.load(Path(__file__).with_name("digits.npz")) as published:
        images, labels = published["images"], published["labels"]
    X = (images[:, None] / np.float32(16)).astype(np.float32)
    y = labels.astype(np.int64)
    rows = _stratified_split(y)
    return {f"{array}_{part}": values[rows[part]] for part in rows for array, values in (("X", X), ("y", y))}


def _stratified_split(y):
    """Rows of `y` (N,) for 'train', 'val' and 'test', each with the same share of every class."""
    order = np.random.RandomState(0).permutation(len(y))  # RandomState's stream is frozen by NumPy's policy
    part = np.empty(len(y), dtype="U5")
    for label in np.unique(y):
        members = order[y[order] == label]
        num_test = int(_DIGITS_TEST_SHARE * len(members))
        num_val = int(_DIGITS_VAL_SHARE * len(members) + 0.5)
        part[members] = "train"
        part[members[:num_test]] = "test"
        part[members[num_test : num_test + num_val]] = "val"
    return {name: order[part[order] == name] for name in ("train", "val", "test")}

"""Running statistics that no batch norm has, as a file of six channels may hold them, and why."""

import numpy as np

MEAN = np.zeros(6, np.float32)
WRONG_STATISTICS = {
    "more channels": (
        {"running_mean": np.zeros(7, np.float32)},
        r"running_mean must have shape \(6,\), got \(7,\)",
    ),
    "a matrix": (
        {"running_var": np.ones((1, 6), np.float32)},
        r"running_var must have shape \(6,\), got \(1, 6\)",
    ),
    "no dimension": ({"running_mean": np.array(0.0)}, r"running_mean must have shape \(6,\), got \(\)"),
    "text": ({"running_mean": MEAN.astype(str)}, "running_mean must be real numbers, got dtype <U"),
    "complex": (
        {"running_var": MEAN.astype(complex)},
        "running_var must be real numbers, got dtype complex128",
    ),
    "dates": (
        {"running_var": MEAN.astype("M8[s]")},
        "running_var must be real numbers, got dtype datetime64",
    ),
    "integers": ({"running_var": MEAN.astype(int)}, "running_var must be real numbers, got dtype int64"),
    "an unknown key": ({"moving_mean": MEAN}, "unknown key 'moving_mean'; did you mean 'running_mean'"),
    "a setting": ({"eps": MEAN}, "unknown key 'eps'"),
    "no array": ({"running_mean": 0.0}, "must be a dict of arrays"),
    "none": ({"running_var": None}, "lacks running_var"),
}


def altered(statistics, change):
    """Statistics with some in place of others; None leaves one out."""
    return {name: value for name, value in (statistics | change).items() if value is not None}

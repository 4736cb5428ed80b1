"""A classifier among scikit-learn's tools."""

from typing import Any, assert_type

import numpy as np
from cnnlib.data import load_digits
from cnnlib.sklearn import ConvNetClassifier
from numpy.typing import NDArray

data = load_digits()
net = ConvNetClassifier(
    [{"conv": 8}, "relu", {"max_pool": 2}], learning_rate=0.01, max_epochs=2, random_state=0
)
assert_type(net.fit(data["X_train"], data["y_train"]), ConvNetClassifier)
assert_type(net.predict(data["X_test"]), NDArray[Any])
assert_type(net.predict_proba(data["X_test"]), NDArray[np.float64])
print(net.model_, net.n_iter_, net.image_shape_)

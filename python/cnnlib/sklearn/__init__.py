"""Networks as estimators of scikit-learn, which they need (``pip install cnnlib[sklearn]``)."""

try:
    from cnnlib.sklearn.classifier import ConvNetClassifier
    from cnnlib.sklearn.regressor import ConvNetRegressor
except ImportError as error:
    raise ImportError(
        f"cnnlib.sklearn needs scikit-learn 1.6 or later: pip install cnnlib[sklearn] ({error})"
    ) from error

__all__ = ["ConvNetClassifier", "ConvNetRegressor"]

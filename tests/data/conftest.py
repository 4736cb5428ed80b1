import cifar_files
import pytest


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """The readers expect files of CIFAR-10 with few images."""
    cifar_files.small_batches(monkeypatch)

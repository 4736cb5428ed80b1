import pytest


@pytest.fixture(autouse=True)
def threads_put_back(num_threads):
    """Options of the command that run in this process must not reach the other tests."""


@pytest.fixture(autouse=True, scope="module")
def quick_ends(without_pictures):
    """Modules that look at pictures have a `without_pictures` of their own."""

import pytest


@pytest.fixture(autouse=True)
def threads_put_back(num_threads):
    """Options of the command that run in this process must not reach the other tests."""

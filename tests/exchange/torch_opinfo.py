"""PyTorch's database of its own operators (OpInfo), from which tests take samples."""

import contextlib
import warnings

import torch


def operators_named(names):
    """Name -> entry, without the variants that test another backend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return {op.name: op for op in op_db if op.name in names and not op.variant_test_name}


@contextlib.contextmanager
def one_thread():
    """PyTorch on one thread: the samples are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""Arrays with the same values in other places and layouts: strided, unaligned, in front of guarded pages."""

import ctypes
import mmap
import os

import numpy as np


def guarded(array):
    """Return a copy whose last value lies in front of a page that nobody may read or write."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page)
    block = mmap.mmap(-1, (pages + 1) * page)
    memory = np.frombuffer(block, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    forbid = memory.ctypes.data + pages * page
    if libc.mprotect(ctypes.c_void_p(forbid), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    placed = memory[pages * page - array.nbytes : pages * page].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def shifted(items):
    """Return what copies an array to an address that is `items` values beyond a multiple of 64 bytes."""

    def copy(array):
        room = np.empty(array.nbytes + 64 + items * array.itemsize, np.uint8)
        start = -room.ctypes.data % 64 + items * array.itemsize
        placed = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        placed[...] = array
        return placed

    return copy


def unaligned(array):
    """Return a copy at an odd address."""
    placed = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def strided(array):
    """Return a view of every other value of a larger array."""
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array


def reversed_axes(array):
    """Return a view whose strides are all negative."""
    turned = (slice(None, None, -1),) * array.ndim
    return array[turned].copy()[turned]


def read_only(array):
    """Return a copy that refuses to be written to."""
    array = array.copy()
    array.flags.writeable = False
    return array


# By the word after ``layout=``; 'guarded' needs mprotect, so not Windows.
LAYOUTS = {
    "plain": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "strided": strided,
    "reversed": reversed_axes,
    "swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "unaligned": unaligned,
    "readonly": read_only,
    "guarded": guarded,
}

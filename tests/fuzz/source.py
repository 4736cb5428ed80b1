"""Values from a fuzzer's bytes."""

import numpy as np

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33]
INTEGERS = [0, 1, 2, 3, 5, 7, -1, -2, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63), 2**64]


class Source:
    """Takes decisions from bytes, one after the other; when they are used up, always the first choice."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def byte(self):
        value = self.data[self.at] if self.at < len(self.data) else 0
        self.at += 1
        return value

    def rest(self):
        rest, self.at = self.data[self.at :], len(self.data)
        return rest

    def choice(self, options):
        return options[self.byte() % len(options)]

    def flag(self):
        return self.byte() % 2 == 1

    def chance(self, one_in):
        """Seldom true, and never once the bytes are used up."""
        return self.byte() % one_in == one_in - 1

    def size(self):
        return self.choice(SIZES)

    def integer(self):
        return self.choice(INTEGERS)

    def number(self):
        return self.choice([0.5, 0.0, 1.0, -1.0, 1e-5, 1e300, -1e300, 5e-324, np.inf, -np.inf, np.nan])

    def array(self, shape, dtype):
        """Small numbers, now and then special ones."""
        rng = np.random.default_rng(self.byte())
        array = np.asarray(rng.integers(-3, 4, shape)).astype(dtype)
        if array.dtype.kind == "f" and array.size and self.chance(8):
            array.flat[self.byte() % array.size] = self.number()
        return array

    def state_of(self, array):
        """The same values in another layout, byte order or alignment; or something else altogether."""
        kind = self.byte() % 12
        if kind == 0:
            return np.asfortranarray(array)
        if kind == 1:
            return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
        if kind == 2:
            return array[(slice(None, None, -1),) * array.ndim]
        if kind == 3:
            return array.astype(array.dtype.newbyteorder())
        if kind == 4:
            buffer = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
            buffer[...] = array
            return buffer
        if kind == 5:
            array = array.copy()
            array.flags.writeable = False
            return array
        if kind == 6:
            return array.astype(self.choice(["f4", "f8", "f2", "i4", "u1", "?", "c8", "O", "U3", "g"]))
        if kind == 7:
            axis = self.byte() % (array.ndim + 1)
            return np.expand_dims(array, axis) if self.flag() else array.ravel()
        if kind == 8 and array.ndim:
            axis, change = self.byte() % array.ndim, self.choice([-1, 1, -(10**9)])
            shape = list(array.shape)
            shape[axis] = max(shape[axis] + change, 0)
            return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
        if kind == 9:
            return np.broadcast_to(array.dtype.type(1), array.shape)
        if kind == 10:
            return self.choice([None, 3, "text", [], {}, np.zeros(()), np.zeros((0, 0, 0, 0)), object()])
        return array

    def garbage(self):
        """What belongs nowhere."""
        return self.choice([None, True, self.integer(), self.number(), "same", "", (), (1, 2), [1], {}, b"x"])

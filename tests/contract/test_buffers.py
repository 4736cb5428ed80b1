"""The pool of buffers: what a step has released serves the next one."""

import os
import sys

import cnnlib
import numpy as np
import pytest
from cnnlib import _core, layers
from cnnlib.models import NAMED_SPECS, ConvNet
from helpers import FOLDER, run_python

SIZES = 1 << 20, 3 << 20, 5 << 20  # bytes
reads_proc = pytest.mark.skipif(
    sys.platform == "win32" or not os.path.exists("/proc/self/statm"),
    reason="no /proc of its own here; under wine it is the host's",
)


@pytest.fixture(autouse=True)
def one_thread(num_threads):
    """How many buffers several threads hold at a time is a matter of chance."""
    num_threads(1)


def counted(run):
    """What `run` returned, and the buffers it acquired and those that were new."""
    before = _core.buffer_counts()
    result = run()
    return result, *(b - a for a, b in zip(before, _core.buffer_counts(), strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_a_released_buffer_is_taken_again(size):
    x = np.ones(size // 4, np.float32)
    kept = [layers.relu_forward(x)[0] for _ in range(3)]
    address = kept[-1].ctypes.data
    del kept[-1]
    (y, _), acquired, fresh = counted(lambda: layers.relu_forward(x))
    assert acquired >= 1  # a sanitizer's build also takes its scratch there
    assert fresh == 0
    assert y.ctypes.data == address


def test_a_buffer_in_use_is_left_alone():
    x = np.ones((3, 1 << 19), np.float32)
    layers.relu_forward(x)
    kept = [layers.relu_forward(row)[0] for row in x]
    assert len({y.ctypes.data for y in kept}) == 3


@pytest.mark.parametrize("network", NAMED_SPECS)
def test_training_steps_take_no_new_buffers(network):
    spec, images = NAMED_SPECS[network], 4
    net = ConvNet(spec, (3, 32, 32), seed=0)
    X = np.random.default_rng(0).standard_normal((images, 3, 32, 32)).astype(np.float32)
    net.initialize(X)
    y = np.zeros((images, 32, 32), int) if net.head == "pixels" else np.arange(images)
    for _ in range(3):
        net.loss(X, y)
    _, acquired, fresh = counted(lambda: net.loss(X, y))
    assert acquired > 0
    assert fresh == 0


def test_a_little_larger_buffer_serves_too():
    cnnlib.release_buffers()
    layers.relu_forward(np.ones(5 << 20, np.uint8).view(np.float32))
    _, _, fresh = counted(lambda: layers.relu_forward(np.ones(9 << 19, np.uint8).view(np.float32)))
    assert fresh == 0
    _, _, fresh = counted(lambda: layers.relu_forward(np.ones(5 << 19, np.uint8).view(np.float32)))
    assert fresh >= 1


def test_released_buffers_are_gone():
    x = np.ones(1 << 20, np.float32)
    layers.relu_forward(x)
    cnnlib.release_buffers()
    _, _, fresh = counted(lambda: layers.relu_forward(x))
    assert fresh >= 1


RESIDENT = """
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
"""


@reads_proc
def test_memory_does_not_grow_with_the_number_of_shapes():
    printed = run_python(
        f"""
        import os
        import cnnlib
        import numpy as np
        {RESIDENT}
        rng = np.random.default_rng(0)
        largest = np.ones((1, 1, 1000, 1000))
        def run(x):
            out, cache = cnnlib.relu_forward(x)
            cnnlib.relu_backward(out, cache)
        run(largest)
        before = resident()
        for _ in range(400):
            height, width = rng.integers(100, 1000, 2)
            run(np.ones((1, 1, height, width)))
        print(resident() - before)
        cnnlib.release_buffers()
        print(resident() - before)
        """,
        OMP_NUM_THREADS="1",
        MALLOC_MMAP_THRESHOLD_="131072",  # or glibc keeps some of the arrays freed, now more, now less
    )
    grown, left = map(float, printed.split())
    assert grown < 48  # MB; what is kept by size alone takes 160
    assert left < 8


@reads_proc
@pytest.mark.parametrize(("what", "most"), [("growth_over_shapes(100)", 32), ("growth_over_steps(1000)", 4)])
def test_memory_does_not_grow_with_use(what, most):
    """Of all layers together, and of a training; `python tests/memory_growth.py` takes more of both."""
    printed = run_python(
        f"""
        import sys
        sys.path.insert(0, {FOLDER!r})
        import memory_growth
        print(memory_growth.{what})
        """,
        OMP_NUM_THREADS="1",
    )
    assert float(printed) < most  # MB


@reads_proc
def test_memory_error_only_where_the_pool_has_none_either():
    printed = run_python(
        """
        import resource
        import cnnlib
        import numpy as np
        x = np.ones(40 << 18, np.float32)  # 40 MB
        kept = [cnnlib.relu_forward(x)[0] for _ in range(4)]
        del kept  # 160 MB, most of which the pool keeps
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20),) * 2)
        y = np.broadcast_to(np.float32(1), 60 << 18).reshape(60, -1)
        from cnnlib import _core
        out = _core.global_avg_pool_backward(np.ones((1, 1), np.float32), (1, 1, 60, 1 << 18))
        assert out.nbytes == 60 << 20
        try:
            _core.global_avg_pool_backward(np.ones((1, 1), np.float32), (1, 1, 6000, 1 << 18))
        except MemoryError:
            print("refused")
        print(cnnlib.relu_forward(np.ones(100, np.float32))[0].sum())
        """,
        OMP_NUM_THREADS="1",
    )
    assert printed == "refused\n100.0"


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc here")
@pytest.mark.parametrize("pool", [False, True], ids=["usual threads", "own threads"])
def test_a_thread_that_finds_no_memory_ends_its_call_alone(pool):
    """Threads of the layer take lines of sums for the image's columns, some MB each."""
    printed = run_python(
        f"""
        import resource
        import cnnlib
        import numpy as np
        from cnnlib import _core
        _core.use_thread_pool({pool})
        x = np.zeros((4, 1, 2, 1 << 20), np.float32)
        cnnlib.relu_forward(np.ones(1 << 20, np.float32))  # starts the threads
        cnnlib.release_buffers()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 20),) * 2)
        try:
            cnnlib.adaptive_avg_pool_forward(x, (2, 3))
        except MemoryError:
            print("refused")
        print(cnnlib.relu_forward(np.ones(100, np.float32))[0].sum())
        """,
        OMP_NUM_THREADS="2",
    )
    assert printed == "refused\n100.0"


def test_recycled_memory_holds_numbers_alone():
    assert _core.new_array("f", (2, 3), np.dtype(np.float16)).shape == (2, 3)
    for dtype in ("O", "U3", "M8[s]"):
        with pytest.raises(TypeError, match=r"^f: expected a dtype of numbers$"):
            _core.new_array("f", (2, 3), np.dtype(dtype))


def test_the_core_takes_arrays_of_one_dtype_alone():
    single, double = np.ones((1, 4), np.float32), np.ones((1, 4))
    program = _core.Program(np.dtype("f4"), [(0, 16, 0), (1, 16, 0)], 16, 16, 0)
    filters = _core.PreparedConv(double.reshape(4, 1, 1, 1), None, {})
    for call in (
        lambda: _core.add("f", single, double),
        lambda: _core.affine_forward("f", single, single.T, double[0], False, False),
        lambda: program.run(double, [1, 4]),
        lambda: program.affine("", 0, 1, double.T @ double, None, None),
        lambda: filters.forward("f", np.ones((1, 1, 2, 2), np.float32), False),
    ):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            call()

"""cnnlib beside other libraries, in sub-interpreters, and with threads that share arrays or change them."""

import sys
import sysconfig
import threading

import cnnlib
import numpy as np
import pytest
from helpers import LAYERS, as_tuple, in_threads, random_arrays, run_python

USE = {
    "cnnlib": """
        import cnnlib
        x, w = np.ones((4, 16, 24, 24), np.float32), np.ones((32, 16, 3, 3), np.float32)
        def use_cnnlib():
            out, cache = cnnlib.conv_forward(x, w, None, {"pad": 1})
            assert abs(float(out[0, 0, 5, 5]) - 144) < 1e-3
            assert cnnlib.conv_backward(out, cache)[0].shape == x.shape
    """,
    "torch": """
        import torch
        def use_torch():
            x, w = torch.ones(4, 16, 24, 24), torch.ones(32, 16, 3, 3, requires_grad=True)
            out = torch.nn.functional.conv2d(x, w, padding=1)
            assert abs(float(out[0, 0, 5, 5]) - 144) < 1e-3
            out.sum().backward()
    """,
    "sklearn": """
        import sklearn.cluster
        def use_sklearn():
            x = np.random.default_rng(0).standard_normal((3000, 8))
            assert sklearn.cluster.KMeans(4, n_init=1, random_state=0).fit(x).n_iter_ > 0
    """,
}


@pytest.mark.peers
@pytest.mark.parametrize(("other", "first"), [("torch", True), ("torch", False), ("sklearn", True)])
def test_beside_another_library_with_threads(other, first):
    """Imported and used in one order or the other, several times in turn: each has an OpenMP of its own."""
    pytest.importorskip(other, reason=f"{other} is not installed")
    names = ["cnnlib", other] if first else [other, "cnnlib"]
    calls = "".join(f"\n        use_{name}()" for name in names * 3)
    code = "\n        import numpy as np\n" + "".join(USE[name] for name in names) + calls
    assert run_python(code + '\n        print("finished")', OMP_NUM_THREADS="2") == "finished"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has the GIL")
def test_a_free_threaded_python_keeps_its_gil_off():
    code = "import cnnlib, sys; print(sys._is_gil_enabled())"
    assert run_python(code) == "False"


# What a sub-interpreter runs, and the main one around it.
INSIDE = """
import sys
sys.path[:] = {path!r}
try:
    import {module}
except ImportError as error:
    print("refused:", *str(error).split())  # NumPy's has many lines
else:
    print("imported")
"""
AROUND = """
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
{first}
interpreter = interpreters.create()
for _ in range(2):
    failure = interpreters.run_string(interpreter, {inside!r})
    assert failure is None, failure
interpreters.destroy(interpreter)
import cnnlib, numpy
print("main:", cnnlib.relu_forward(numpy.ones(3))[0].sum())
"""


@pytest.mark.skipif(
    not ((3, 11) <= sys.version_info < (3, 15)), reason="the module of sub-interpreters has another name"
)
@pytest.mark.parametrize(
    ("first", "module"),
    [
        ("", "cnnlib"),
        ("import numpy", "cnnlib"),
        ("import cnnlib", "cnnlib"),
        (
            "import numpy",
            "numpy, cnnlib",
        ),  # NumPy may come to a sub-interpreter first, but is then lost to others
        ("import cnnlib", "numpy, cnnlib"),
    ],
)
def test_a_sub_interpreter_is_refused(first, module):
    """By an ImportError, NumPy's or our own, while the main interpreter goes on: not by a deadlock."""
    inside = INSIDE.format(path=sys.path, module=module)
    *refusals, main = run_python(AROUND.format(first=first, inside=inside)).splitlines()
    assert len(refusals) == 2
    assert all(line.startswith("refused:") for line in refusals)
    assert main == "main: 3.0"


@pytest.mark.threads
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_threads_that_share_their_arrays(layer, rng):
    """Eight threads read the same arrays and the same cache; each gets the bits of one alone."""
    arrays = layer.arrays(rng)
    out, cache = layer.forward(*arrays, *layer.rest())
    (dout,) = random_arrays(rng, out.shape)
    want = layer.run(arrays, dout)

    def work(k):
        for _ in range(5):
            results = [*layer.run(arrays, dout), *as_tuple(layer.backward(dout, cache))]
            for got, expected in zip(results, [*want, *want[1:]], strict=True):
                np.testing.assert_array_equal(got, expected)

    in_threads(8, work)


def test_arrays_that_change_during_a_call():
    """
    Another thread writes to every array, gives it other shapes, and forges labels and winners: results may be
    anything, but nothing outside of them is written to.
    """
    printed = run_python(
        """
        import sys, threading
        import numpy as np
        import cnnlib
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((4, 8, 24, 24)), rng.standard_normal((8, 8, 3, 3))
        y = rng.integers(0, 10, 5000)
        scores = rng.standard_normal((5000, 10))
        pool_param, conv_param = {"pool_height": 2, "pool_width": 2}, {"pad": 1}
        _, pool_cache = cnnlib.max_pool_forward(x, pool_param)
        _, relu_cache = cnnlib.conv_relu_forward(x, w, None, conv_param)
        has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
        done = threading.Event()
        def change():
            noise = np.random.default_rng(1)
            while not done.is_set():
                x[...] = noise.standard_normal()
                w[...] = np.nan
                y[:] = noise.integers(-10**12, 10**12)
                y[:] = 3
                pool_cache.winners[1][...] = noise.integers(0, 256)
                relu_cache[1][1][...] = noise.integers(0, 256)
                if has_gil:  # NumPy itself reads a shape that another thread replaces
                    scores.shape = (10, 5000)
                    scores.shape = (5000, 10)
                conv_param["pad"], pool_param["stride"] = int(noise.integers(0, 3)), int(noise.integers(1, 4))
        thread = threading.Thread(target=change)
        thread.start()
        def guarded(shape):
            '''An array in the middle of a larger one, and that one.'''
            size = int(np.prod(shape))
            memory = np.full(size + 128, 7.5)
            return memory[64:-64].reshape(shape), memory
        refused = served = 0
        def call(function, *arguments):
            global refused, served
            try:
                function(*arguments)
                served += 1
            except (ValueError, TypeError):
                refused += 1
        for _ in range(150):
            for forward, arguments, shape in (
                (cnnlib.conv_forward, (x, w, None, {"pad": 1}), (4, 8, 24, 24)),
                (cnnlib.max_pool_forward, (x, {"pool_height": 2, "pool_width": 2}), (4, 8, 12, 12)),
                (cnnlib.spatial_groupnorm_forward, (x, np.ones(8), np.ones(8), 2, {}), (4, 8, 24, 24)),
            ):
                out, memory = guarded(shape)
                forward(*arguments, out=out)
                assert (memory[:64] == 7.5).all() and (memory[-64:] == 7.5).all()
            call(cnnlib.conv_forward, x, w, None, conv_param)
            call(cnnlib.max_pool_forward, x, pool_param)
            call(cnnlib.max_pool_backward, np.ones((4, 8, 12, 12)), pool_cache)
            call(cnnlib.conv_relu_backward, np.ones((4, 8, 24, 24)), relu_cache)
            call(cnnlib.softmax_loss, scores, y)
            call(cnnlib.svm_loss, scores, y)
            call(cnnlib.relu_forward, scores)
        done.set()
        thread.join()
        assert served >= 150, (served, refused)
        print("finished")
        """,
        OMP_NUM_THREADS="2",
    )
    assert printed == "finished"


@pytest.mark.slow
@pytest.mark.threads
def test_release_of_buffers_during_calls(rng):
    """Memory is given back under the hands of those who use it."""
    x, w = random_arrays(rng, (4, 8, 30, 30), (8, 8, 3, 3))
    want, _ = cnnlib.conv_forward(x, w, None, {"pad": 1})
    done = threading.Event()

    def release():
        while not done.is_set():
            cnnlib.release_buffers()

    thread = threading.Thread(target=release)
    thread.start()
    try:
        for _ in range(200):
            np.testing.assert_array_equal(cnnlib.conv_forward(x, w, None, {"pad": 1})[0], want)
    finally:
        done.set()
        thread.join()

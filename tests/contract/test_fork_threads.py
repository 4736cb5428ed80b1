"""Threads: how many, from many Python threads at once, and after fork."""

import os
import threading

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from helpers import LAYERS, in_threads, random_arrays, run_python

fork_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@fork_only
@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_conv_works_in_a_forked_child(threads):
    """OpenMP's threads do not survive fork: a child that waits for them would hang."""
    printed = run_python(
        """
        import os
        import numpy as np
        import cnnlib
        rng = np.random.default_rng(0)
        x, w, b = rng.standard_normal((8, 16, 24, 24)), rng.standard_normal((32, 16, 3, 3)), np.zeros(32)
        want, cache = cnnlib.conv_forward(x, w, b, {"pad": 1})
        dx, dw, db = cnnlib.conv_backward(want, cache)
        for generation in range(2):
            child = os.fork()
            if child == 0:
                got, cache = cnnlib.conv_forward(x, w, b, {"pad": 1})
                gradients = cnnlib.conv_backward(got, cache)
                good = np.array_equal(got, want) and all(map(np.array_equal, gradients, (dx, dw, db)))
                grandchild = os.fork()
                if grandchild == 0:
                    os._exit(0 if np.array_equal(cnnlib.conv_forward(x, w, b, {"pad": 1})[0], want) else 1)
                good = good and os.waitpid(grandchild, 0)[1] == 0
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0, "the child's results differ"
            assert np.array_equal(cnnlib.conv_forward(x, w, b, {"pad": 1})[0], want)
        print("finished")
        """,
        OMP_NUM_THREADS=threads,
    )
    assert printed == "finished"


@fork_only
def test_multiprocessing_pool_after_a_parallel_call():
    printed = run_python(
        """
        import multiprocessing
        import numpy as np
        import cnnlib
        x, w = np.ones((4, 16, 24, 24)), np.ones((32, 16, 3, 3))
        def total(_):
            return float(cnnlib.conv_forward(x, w, None, {"pad": 1})[0].sum())
        want = total(0)
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map(total, range(6)) == [want] * 6
        print("finished")
        """,
        OMP_NUM_THREADS="3",
    )
    assert printed == "finished"


@pytest.mark.threads
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_many_python_threads_at_once(layer, rng):
    """Eight threads run a layer on arrays of their own; each gets what it would get alone."""
    jobs = []
    for _ in range(8):
        arrays = layer.arrays(rng)
        out, _ = layer.forward(*arrays, *layer.rest())
        (dout,) = random_arrays(rng, out.shape)
        jobs.append((arrays, dout, layer.run(arrays, dout)))

    def work(k):
        arrays, dout, want = jobs[k]
        for _ in range(5):
            for got, expected in zip(layer.run(arrays, dout), want, strict=True):
                np.testing.assert_array_equal(got, expected)

    in_threads(len(jobs), work)


@pytest.mark.threads
def test_large_convolutions_from_many_python_threads(num_threads, rng):
    num_threads(3)
    w, b = random_arrays(rng, (33, 16, 3, 3), (33,))
    xs = random_arrays(rng, *[(n, 16, 19, 18) for n in (1, 2, 3, 5, 7, 4)])
    want = [cnnlib.conv_forward(x, w, b, {"pad": 1})[0] for x in xs]

    def work(i):
        for _ in range(5):
            out, cache = cnnlib.conv_forward(xs[i], w, b, {"pad": 1})
            cnnlib.conv_backward(out, cache)
            np.testing.assert_array_equal(out, want[i])

    in_threads(len(xs), work)


def test_number_of_threads_can_be_set(num_threads):
    for n in (1, 2, 3):
        num_threads(n)
        assert cnnlib.get_num_threads() == n


def test_number_of_threads_holds_in_other_python_threads(num_threads):
    num_threads(1)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cnnlib.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [1]


@pytest.mark.parametrize("omp_num_threads", ["1", "3"])
def test_number_of_threads_is_one_for_all_python_threads(omp_num_threads):
    """Also in a thread that set another number before, and in one that is new."""
    printed = run_python(
        """
        import threading
        import cnnlib
        seen, turn, back = [], threading.Event(), threading.Event()
        def sets_four_itself():
            cnnlib.set_num_threads(4)
            turn.set()
            back.wait(300)
            seen.append(cnnlib.get_num_threads())
        def is_new():
            seen.append(cnnlib.get_num_threads())
        first = threading.Thread(target=sets_four_itself)
        first.start()
        turn.wait(300)
        assert cnnlib.get_num_threads() == 4
        cnnlib.set_num_threads(8)
        back.set()
        first.join()
        second = threading.Thread(target=is_new)
        second.start()
        second.join()
        print(*seen)
        """,
        OMP_NUM_THREADS=omp_num_threads,
    )
    assert printed == "8 8"


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.threads
@pytest.mark.parametrize("pool", [False, True], ids=["openmp", "pool"])
@pytest.mark.parametrize("layer", ["depthwise", "3x3", "1x1", "pool", "norm"])
def test_the_number_of_threads_changes_during_calls(layer, pool, isa, rng, num_threads, thread_pool):
    """Another thread sets it all the time, and missing cores are noticed: a call keeps one number."""
    thread_pool(pool)
    x, w = random_arrays(rng, (2, 32, 56, 56), (32, 1 if layer == "depthwise" else 32, 3, 3))
    window = {"pool_height": 3, "pool_width": 3, "stride": 1, "pad": 1}
    gamma, beta = np.ones(32), np.zeros(32)
    calls = {
        "depthwise": lambda: cnnlib.conv_forward(x, w, None, {"pad": 1, "groups": 32}),
        "3x3": lambda: cnnlib.conv_forward(x, w, None, {"pad": 1}),
        "1x1": lambda: cnnlib.conv_forward(x, w[:, :, :1, :1].copy(), None, {}),
        "pool": lambda: cnnlib.max_pool_forward(x, window),
        "norm": lambda: cnnlib.spatial_groupnorm_forward(x, gamma, beta, 4, {}),
    }
    backward = {"pool": cnnlib.max_pool_backward, "norm": cnnlib.spatial_groupnorm_backward}

    def run():
        out, cache = calls[layer]()
        return [out, *backward.get(layer, cnnlib.conv_backward)(out, cache)]

    want, ended = run(), threading.Event()

    def change():
        while not ended.is_set():
            for n in (1, 16, 2, 5):
                cnnlib.set_num_threads(n)

    setter = threading.Thread(target=change)
    _core.notice_missing_cores(True)
    try:
        setter.start()
        for _ in range(20):
            for got, expected in zip(run(), want, strict=True):
                np.testing.assert_array_equal(got, expected)
    finally:
        ended.set()
        setter.join()
        _core.notice_missing_cores(False)


FEW_PROCESSES = """
    import os, resource, warnings
    import numpy as np
    import cnnlib
    x, w = np.ones((8, 32, 24, 24), np.float32), np.ones((32, 32, 3, 3), np.float32)
    want = cnnlib.conv_forward(x, w, None, {"pad": 1})[0]
    cnnlib.set_num_threads(16)
    if os.getuid() == 0:
        os.setuid(54321)  # limits do not hold for root

    def run():
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                assert np.array_equal(cnnlib.conv_forward(x, w, None, {"pad": 1})[0], want)
        return [str(warning.message) for warning in caught]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no limit on processes")
def test_fewer_threads_where_no_more_can_be_started():
    """OpenMP's library would end the process."""
    printed = run_python(FEW_PROCESSES + "\n    print(*run())", OMP_NUM_THREADS="1")
    assert printed.startswith("cnnlib: the system refuses to start more threads; kernels go on with 1")
    assert printed.count("cnnlib") == 1


@fork_only
def test_fewer_threads_in_a_forked_child():
    printed = run_python(
        FEW_PROCESSES
        + """
    child = os.fork()
    if child == 0:
        print(len(run()))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """,
        OMP_NUM_THREADS="1",
        PYTHONUNBUFFERED="1",
    )
    assert printed == "1"


@fork_only
def test_small_calls_of_a_forked_child_wait_for_no_other_thread():
    printed = run_python(
        """
        import os, resource
        import numpy as np
        import cnnlib
        x = np.ones((1, 1, 4, 4), np.float32)
        cnnlib.conv_forward(np.ones((4, 16, 24, 24)), np.ones((32, 16, 3, 3)), None, {"pad": 1})
        child = os.fork()
        if child == 0:
            cnnlib.relu_forward(x)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
            for _ in range(200):
                cnnlib.relu_forward(x)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before)
            os._exit(0)
        os.waitpid(child, 0)
        """,
        PYTHONUNBUFFERED="1",
    )
    assert int(printed) < 20


@pytest.mark.parametrize("value", [0, -1, 10**9, 2**70])
def test_impossible_number_of_threads_is_refused(value):
    with pytest.raises(ValueError, match=r"set_num_threads: n must be .*"):
        cnnlib.set_num_threads(value)


@pytest.mark.parametrize("value", [1.5, "2", None, True])
def test_number_of_threads_of_a_wrong_type_is_refused(value):
    with pytest.raises(TypeError, match=r"set_num_threads: n must be an integer, got"):
        cnnlib.set_num_threads(value)


def test_omp_num_threads_is_the_default():
    assert run_python("import cnnlib; print(cnnlib.get_num_threads())", OMP_NUM_THREADS="3") == "3"
    assert run_python("import cnnlib; print(cnnlib.get_num_threads())", OMP_NUM_THREADS="1") == "1"


@pytest.mark.parametrize("text", ["0", "all"])
def test_omp_num_threads_that_is_no_number_is_all_processors_at_most(text):
    code = "import os, cnnlib; print(cnnlib.get_num_threads() <= os.cpu_count())"
    assert run_python(code, OMP_NUM_THREADS=text) == "True"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_default_stays_within_the_cpus_that_the_process_may_use():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import cnnlib; "
    assert run_python(code + "print(cnnlib.get_num_threads())") == "1"


@pytest.mark.skipif(not _core.has_openmp, reason="built without OpenMP, which threadpoolctl limits")
def test_threadpoolctl_sees_and_limits_us(num_threads):
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    num_threads(3)
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp"]
    assert pools
    assert 3 in [pool["num_threads"] for pool in pools]
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert cnnlib.get_num_threads() == 1
    assert cnnlib.get_num_threads() == 3


def test_instruction_set_can_be_chosen_by_the_environment():
    for name in _core.available_isas():
        assert run_python("from cnnlib import _core; print(_core.active_isa())", CNNLIB_ISA=name) == name
    code = """
        try:
            import cnnlib
        except Exception as error:
            print(error)
        """
    printed = run_python(code, CNNLIB_ISA="sse9")
    assert "CNNLIB_ISA" in printed
    assert "sse9" in printed
    assert "base" in printed


@pytest.mark.parametrize("run", range(3))
def test_the_interpreter_ends_while_daemon_threads_compute(run):
    """Up to Python 3.13 a thread is then ended by unwinding its stack, wherever it waits for the GIL."""
    printed = run_python(
        """
        import threading, time
        import cnnlib
        import numpy as np
        x = np.ones((64, 512), np.float32)
        def work():
            while True:
                cnnlib.relu_forward(x)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        print("end")
        """
    )
    assert printed == "end"

"""The processor at hand: its caches and cores, by folders as Linux has them, and what follows from them."""

import os
from types import SimpleNamespace

import cnnlib
import pytest
from cnnlib import _core
from cnnlib._system import config as configuration
from helpers import run_python

pytestmark = [pytest.mark.sets, pytest.mark.plain]

KB = 1 << 10


def system(folder, processors):
    """A folder like /sys/devices/system/cpu.

    `processors`: for each logical one its siblings' list and {level: (size, list of those that share it)}.
    """
    for number, (siblings, levels) in enumerate(processors):
        topology = folder / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
        kinds = [("Data", 1, *levels[1]), ("Instruction", 1, "64K", siblings)]
        kinds += [("Unified", level, *levels[level]) for level in levels if level > 1]
        for index, (kind, level, size, shared) in enumerate(kinds):
            cache = folder / f"cpu{number}" / "cache" / f"index{index}"
            cache.mkdir(parents=True)
            for name, value in (
                ("type", kind),
                ("level", level),
                ("size", size),
                ("shared_cpu_list", shared),
            ):
                (cache / name).write_text(f"{value}\n")
    return str(folder), list(range(len(processors)))


def test_cores_of_their_own(tmp_path):
    each = {1: ("48K", "{i}"), 2: ("2048K", "{i}"), 3: ("32768K", "0-3")}
    cpus = [(str(i), {k: (size, shared.format(i=i)) for k, (size, shared) in each.items()}) for i in range(4)]
    folder, numbers = system(tmp_path, cpus)
    assert _core.system_caches(folder, numbers) == (48 * KB, 2048 * KB, 8192 * KB)
    assert _core.system_cores(folder, numbers) == 4
    assert _core.system_cores(folder, [1, 3]) == 2


@pytest.mark.parametrize("lists", [("0-1", "0-1", "2-3", "2-3"), ("0,2", "1,3", "0,2", "1,3")])
def test_hyper_threads_of_a_core_count_once(tmp_path, lists):
    """Kernels start one thread for each core, which has all of its caches, however they are numbered."""
    cpus = [(own, {1: ("32K", own), 2: ("512K", own), 3: ("32M", "0-3")}) for own in lists]
    folder, numbers = system(tmp_path, cpus)
    assert _core.system_caches(folder, numbers) == (32 * KB, 512 * KB, 16384 * KB)
    assert _core.system_cores(folder, numbers) == 2


def test_cores_of_two_kinds(tmp_path):
    """Blocks suit the least share of either kind: here four small cores behind one second level."""
    fast = {1: ("48K", "0"), 2: ("1280K", "0"), 3: ("12M", "0-4")}
    slow = {1: ("32K", "{i}"), 2: ("2M", "1-4"), 3: ("12M", "0-4")}
    cpus = [("0", fast)]
    cpus += [(str(i), {k: (size, s.format(i=i)) for k, (size, s) in slow.items()}) for i in range(1, 5)]
    folder, numbers = system(tmp_path, cpus)
    assert _core.system_caches(folder, numbers)[:2] == (32 * KB, 512 * KB)


def test_a_system_that_says_nothing(tmp_path):
    assert _core.system_caches(str(tmp_path), [0, 1]) == (32 * KB, 256 * KB, 2048 * KB)
    assert _core.system_cores(str(tmp_path), [0, 1]) == 2


def test_the_host_of_a_virtual_machine(tmp_path):
    """Its third level serves tenants that nobody sees."""
    folder, numbers = system(tmp_path, [("0", {1: ("48K", "0"), 2: ("2M", "0"), 3: ("480M", "0")})])
    assert _core.system_caches(folder, numbers)[2] == 16 << 20


def test_caches_of_the_environment():
    code = "from cnnlib import _core; print(*_core.caches())"
    assert run_python(code, CNNLIB_CACHES="32K,512K,4M") == f"{32 * KB} {512 * KB} {4096 * KB}"
    assert run_python(code, CNNLIB_CACHES="40000,1.5M,1.5M") == f"40000 {1536 * KB} {1536 * KB}"


@pytest.mark.parametrize(
    "text", ["32K", "32K,512K", "512K,32K,4M", "32K,512K,4M,8M", "1K,2K,4K", "a,b,c", "32G,1M,2M"]
)
def test_caches_of_the_environment_that_are_none(text):
    code = """
        try:
            import cnnlib
        except ImportError as error:
            print(error)
    """
    printed = run_python(code, CNNLIB_CACHES=text)
    assert printed == (
        "CNNLIB_CACHES must be sizes of the first, second and third level that do not decrease, from 4K on, "
        f"as '32K,512K,4M', got '{text}'"
    )


# Intel's clients until Ice Lake; Zen 2 and 3; Alder Lake's fast cores; Sapphire Rapids; Arm's servers.
PROCESSORS = ["32K,256K,2M", "32K,512K,4M", "48K,1280K,3M", "48K,2M,2M", "64K,1M,1M"]


@pytest.mark.parametrize(
    ("caches", "rows"), list(zip(PROCESSORS, [8, 16, 16, 16, 16], strict=True)), ids=PROCESSORS
)
def test_blocks_follow_from_the_caches(caches, rows):
    """x of a 1x1 kernel's block takes half of the second level, and at most 256 KB."""
    code = """
        import cnnlib
        plan = cnnlib.explain((8, 64, 56, 56), (64, 64, 1, 1), {"algorithm": "pixel-lanes"}).forward
        print(plan.blocks["output rows"] * plan.blocks["output columns"])
    """
    positions = int(run_python(code, CNNLIB_CACHES=caches, OMP_NUM_THREADS="1", CNNLIB_ISA="base"))
    assert positions == rows * 56
    assert 64 * 4 * positions <= min(_bytes(caches.split(",")[1]) // 2, 256 * KB)


def _bytes(text):
    return int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]]


@pytest.mark.parametrize("isa", _core.available_isas())
def test_caches_change_no_bit(isa):
    """Neither the smallest sizes nor the largest: forward, dx and dw by every method that fits."""
    code = """
        import hashlib
        import numpy as np
        import cnnlib
        digest = hashlib.sha256()
        rng = np.random.default_rng(0)
        shapes = [((2, 150, 9, 9), (72, 150, 3, 3), 1, 1), ((1, 64, 40, 37), (48, 64, 1, 1), 0, 1),
                  ((2, 40, 30, 28), (40, 1, 3, 3), 1, 40), ((1, 3, 64, 64), (24, 3, 5, 5), 2, 1),
                  ((2, 512, 7, 7), (256, 512, 1, 1), 0, 1), ((1, 64, 24, 24), (64, 64, 3, 3), 1, 1)]
        for x_shape, w_shape, pad, groups in shapes:
            for dtype in (np.float32, np.float64):
                x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
                plans = cnnlib.explain(x_shape, w_shape, {"pad": pad, "groups": groups}, dtype)
                passes = (plans.forward, plans.input_gradient, plans.weight_gradient)
                names = dict.fromkeys(method for plan in passes for method, _ in plan.alternatives)
                for name in names:
                    out, cache = cnnlib.conv_forward(
                        x, w, None, {"pad": pad, "groups": groups, "algorithm": name})
                    for array in (out, *cnnlib.conv_backward(out, cache)[:2]):
                        digest.update(array.tobytes())
        print(digest.hexdigest())
    """
    sizes = ("4K,16K,64K", "32K,512K,4M", "128K,16M,64M")
    digests = {run_python(code, CNNLIB_CACHES=caches, CNNLIB_ISA=isa) for caches in sizes}
    assert len(digests) == 1


PRINT_RULE = "from cnnlib._system.config import thread_rule; print(thread_rule())"


class TestTheRuleThatSetsTheNumberOfThreads:
    def test_the_variable(self):
        assert run_python(PRINT_RULE, OMP_NUM_THREADS="3") == "the variable OMP_NUM_THREADS=3"

    def test_a_call_wins(self):
        code = f"import cnnlib; cnnlib.set_num_threads(5); {PRINT_RULE}"
        assert run_python(code, OMP_NUM_THREADS="3") == "the call set_num_threads(5)"

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity to set")
    def test_the_affinity(self):
        processors = os.cpu_count()
        first = min(os.sched_getaffinity(0))
        rule = f"the affinity, which allows 1 of {processors} processors"
        code = f"import os; os.sched_setaffinity(0, {{{first}}}); {PRINT_RULE}"
        assert run_python(code) == (rule if processors > 1 else "the machine's cores")

    @pytest.mark.skipif(not _core.has_openmp, reason="threadpoolctl limits OpenMP's threads")
    def test_threadpoolctl(self):
        pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
        code = f"import cnnlib, threadpoolctl; limits = threadpoolctl.threadpool_limits(1); {PRINT_RULE}"
        assert run_python(code, OMP_NUM_THREADS="3") == (
            "OpenMP, which threadpoolctl or another library told so; without it the variable "
            "OMP_NUM_THREADS=3"
        )

    @pytest.mark.parametrize(
        ("cores", "quota", "rule"),
        [
            (8, 3, "the cgroup's quota of processor time, for 3 of 8 cores"),
            (8, 8, "the machine's cores"),
            (8, 0, "the machine's cores"),
        ],
    )
    def test_a_quota(self, monkeypatch, cores, quota, rule):
        threads = min(cores, quota or cores)
        core = SimpleNamespace(
            physical_cores=lambda: cores,
            cgroup_cpus=lambda membership, mount: quota,
            get_num_threads=lambda: threads,
        )
        monkeypatch.setattr(configuration, "_core", core)
        monkeypatch.setattr(configuration, "_asked", None)
        monkeypatch.setattr(configuration, "_VARIABLE", None)
        monkeypatch.setattr(os, "cpu_count", lambda: None)  # no affinity is known
        assert configuration.thread_rule() == rule

    def test_show_config_has_it(self, num_threads):
        num_threads(1)
        assert configuration.current_config()["threads set by"] == "the call set_num_threads(1)"


def test_show_config_names_what_multiplies_bytes():
    code = "import cnnlib; cnnlib.show_config()"
    assert "at most none by CNNLIB_INT8" in run_python(code, CNNLIB_INT8="none")
    assert "CNNLIB_INT8" not in run_python(code)


def test_show_config_names_them(capsys):
    config = cnnlib.show_config()
    assert config["cores"] >= 1
    l1, l2, _ = _core.caches()
    assert config["caches of a thread"].startswith(f"{l1 >> 10} KB, ")
    assert config["caches of a thread"] in capsys.readouterr().out
    assert l2 >= l1

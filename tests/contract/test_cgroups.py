"""What a container grants, by folders as Linux has them: memory, and time of processors."""

import pytest
from cnnlib import _core
from helpers import run_python

UNLIMITED = 2**64 - 1  # bytes


class Groups:
    """Files like /proc/self/cgroup and those below /sys/fs/cgroup."""

    def __init__(self, folder):
        self.folder = folder

    def limit(self, **values):
        """`{"outer/cpu.max": "max 100000"}`, each file in its folder."""
        for name, value in values.items():
            path = self.folder / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")

    def of(self, *lines):
        """The limits (memory, processors) of a process in these groups."""
        membership = self.folder / "membership"
        membership.write_text("".join(f"{line}\n" for line in lines))
        paths = str(membership), str(self.folder / "cgroup")
        return _core.cgroup_memory_limit(*paths), _core.cgroup_cpus(*paths)


@pytest.fixture
def groups(tmp_path):
    return Groups(tmp_path)


def test_without_limits(groups):
    assert groups.of() == (UNLIMITED, 0)
    assert groups.of("0::/", "3:cpu:/", "nothing") == (UNLIMITED, 0)
    groups.limit(**{"job/memory.max": "max", "job/cpu.max": "max 100000"})
    assert groups.of("0::/job") == (UNLIMITED, 0)
    groups.limit(**{"cpu/job/cpu.cfs_quota_us": -1, "cpu/job/cpu.cfs_period_us": 100000})
    assert groups.of("3:cpu:/job") == (UNLIMITED, 0)


def test_the_least_limit_of_nested_groups_of_version_2(groups):
    groups.limit(**{"outer/inner/memory.max": "max", "outer/memory.max": 3000000})
    groups.limit(**{"outer/inner/cpu.max": "max 100000", "outer/cpu.max": "400000 100000"})
    assert groups.of("0::/outer/inner") == (3000000, 4)
    groups.limit(**{"outer/inner/memory.max": 2000000, "outer/inner/cpu.max": "50000 20000"})
    assert groups.of("0::/outer/inner") == (2000000, 3)
    assert groups.of("0::/outer") == (3000000, 4)


def test_the_least_limit_of_nested_groups_of_version_1(groups):
    groups.limit(**{"memory/memory.limit_in_bytes": 9223372036854771712})
    groups.limit(**{"memory/job/memory.limit_in_bytes": 1000000})
    groups.limit(**{"cpu/cpu.cfs_quota_us": 300000, "cpu/cpu.cfs_period_us": 100000})
    groups.limit(**{"cpu/job/cpu.cfs_quota_us": 40000, "cpu/job/cpu.cfs_period_us": 50000})
    assert groups.of("12:cpu,cpuacct:/other", "5:memory:/job") == (1000000, 3)
    assert groups.of("12:cpu,cpuacct:/job", "5:memory:/other") == (9223372036854771712, 1)
    assert groups.of("12:cpuacct:/job", "3:cpuset:/job") == (UNLIMITED, 0)


def test_a_group_that_is_seen_from_outside(groups):
    """The container's own folder is the root that it sees."""
    groups.limit(**{"memory.max": 2000000, "cpu.max": "150000 100000"})
    assert groups.of("0::/docker/0123") == (2000000, 2)
    groups.limit(**{"memory/memory.limit_in_bytes": 1000000})
    assert groups.of("5:memory:/docker/0123") == (1000000, 0)


@pytest.mark.parametrize("text", ["", "0 100000", "100000 0", "-5 100000", "much 100000", "100000"])
def test_a_quota_that_is_none(groups, text):
    groups.limit(**{"cpu.max": text})
    assert groups.of("0::/") == (UNLIMITED, 0)


def test_the_process_at_hand():
    """What the threads and the pool start from is no more than its own groups grant."""
    printed = run_python(
        """
        import resource
        import cnnlib
        from cnnlib import _core
        files = "/proc/self/cgroup", "/sys/fs/cgroup"
        quota = _core.cgroup_cpus(*files)
        assert cnnlib.get_num_threads() == min([_core.physical_cores()] + [quota] * (quota > 0))
        assert _core.memory_limit() <= _core.cgroup_memory_limit(*files)
        least = _core.memory_limit() - 4096
        resource.setrlimit(resource.RLIMIT_AS, (least, least))
        assert _core.memory_limit() == least
        print("finished")
        """
    )
    assert printed == "finished"

"""Two hosts on this machine, with a link between them that delays packets: network namespaces, and a process
that carries packets from one's tunnel device to the other's.

It needs root, ``ip`` and /dev/net/tun, but no queueing discipline of the kernel (netem, say).
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from support.scaling.launch import environment, mpiexec, reported

DEVICE = "cnnlib0"
MTU = 9000
HOSTS = {"cnnlib-a": "10.77.0.1", "cnnlib-b": "10.77.0.2"}  # a namespace, a host's name, and its address
_NETWORK = "10.77.0.0/24"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # of linux/if_tun.h
_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def delayed_link(delay, bandwidth):
    """Let two namespaces be joined by a link for the duration of a ``with`` block.

    Parameters
    ----------
    delay : float
        Seconds that a packet is under way, in either direction.
    bandwidth : float
        Bytes per second in each direction.
    """
    command = [sys.executable, __file__, str(delay), str(bandwidth)]
    for name in HOSTS:
        _ip("netns", "add", name)
    try:
        carrier = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **environment(1)})
        try:
            if carrier.stdout.readline() != b"ready\n":
                sys.exit("the link could not be made")
            for name, address in HOSTS.items():
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", DEVICE)
                _ip("-n", name, "link", "set", DEVICE, "mtu", str(MTU), "up")
            yield
        finally:
            carrier.send_signal(signal.SIGTERM)
            carrier.wait()
    finally:
        for name in HOSTS:
            _end_processes(name)
            _ip("netns", "del", name)


def on_both_hosts(program, options, timeout=300, settings=()):
    """What a program of this folder has reported from two ranks, one on each host, over TCP.

    `settings` are further pairs of Open MPI's parameters and values.
    """
    path = Path(__file__)
    here = next(iter(HOSTS))
    pairs = [("pml", "ob1"), ("btl", "self,tcp"), ("btl_tcp_if_include", _NETWORK), *settings]
    parameters = [word for pair in pairs for word in ("--mca", *pair)]
    command = [
        *("ip", "netns", "exec", here, "unshare", "--uts", "sh", "-c", f'hostname {here}; exec "$@"', "sh"),
        *(mpiexec(), "-n", "2", "--host", ",".join(f"{name}:1" for name in HOSTS), "--bind-to", "none"),
        *("--prtemca", "plm_ssh_agent", f"{sys.executable} {path.with_name('other_host.py')}"),
        *("--prtemca", "prte_if_include", _NETWORK, *parameters),
        *(sys.executable, str(path.with_name(f"{program}.py")), options),
    ]
    done = subprocess.run(
        command, env={**os.environ, **environment(1)}, capture_output=True, text=True, timeout=timeout
    )
    return reported(done.returncode, done.stdout, done.stderr, 2)


def _end_processes(namespace):
    """End what an interrupted run has left there."""
    left = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True)
    for process in map(int, left.stdout.split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def carry(delay, bandwidth):
    """Move packets between the two tunnels until the process is ended."""
    ends = [_tunnel(name) for name in HOSTS]
    with contextlib.suppress(OSError):  # a rank that waits keeps its core busy
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    other = dict(zip(ends, reversed(ends), strict=True))
    queues = {end: collections.deque() for end in ends}  # (time of arrival, packet), on the way to `end`
    free = dict.fromkeys(ends, 0.0)  # when the link to `end` has sent what it was given
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        for end, queue in queues.items():
            while queue and queue[0][0] <= now:
                with contextlib.suppress(OSError):  # as long as the other end is not up
                    os.write(end, queue.popleft()[1])
        due = min((queue[0][0] for queue in queues.values() if queue), default=None)
        wait = None if due is None else max(due - time.monotonic(), 0)
        for end in select.select(ends, [], [], wait)[0]:
            packet, to = os.read(end, 65536), other[end]
            free[to] = max(free[to], time.monotonic()) + len(packet) / bandwidth
            queues[to].append((free[to] + delay, packet))


def _tunnel(namespace):
    """A tunnel device in the namespace, open."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/var/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    carry(*map(float, sys.argv[1:]))

"""Threads that cannot be started, that fail, or whose process is short of memory: no hang, the same numbers."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce._support import threads

PROGRAM = """
import sys, resource, threading, numpy as np, ssmreduce as sr
rng = np.random.default_rng(0)
B, C = rng.standard_normal((256, 16)) + 0j, rng.standard_normal((16, 256)) + 0j
ssm = sr.DiagonalSSM(0.9 * np.exp(1j * rng.uniform(0, 3, 256)), B, C, np.zeros((16, 16)), conj_sym=True)
u = rng.standard_normal((1, 400, 16))
alone = sr.simulate(ssm, u, threads=1)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (int(sys.argv[1]) << 20),) * 2)
print((sr.simulate(ssm, u, threads=4) == alone).all(), flush=True)
"""


@pytest.fixture
def few_threads(monkeypatch):
    """Function: let only so many threads of the pool start, from a pool without threads on."""

    def limit(left):
        start = threading.Thread.start

        def limited(thread):
            nonlocal left
            if thread.name.startswith("ssmreduce"):
                left -= 1
                if left < 0:
                    raise RuntimeError("can't start new thread")
            start(thread)

        threads._workers.cache_clear()
        monkeypatch.setattr(threading.Thread, "start", limited)

    yield limit
    monkeypatch.undo()
    threads._workers.cache_clear()


@pytest.mark.parametrize("started", [0, 1, 2])
@pytest.mark.parametrize("kind", ["wide", "channels"])
def test_results_do_not_change_where_threads_cannot_start(kind, started, few_threads, rng):
    if kind == "wide":
        B, C, D = rng.standard_normal((64, 8)) + 0j, rng.standard_normal((8, 64)) + 0j, np.zeros((8, 8))
        Lambda = 0.9 * np.exp(1j * rng.uniform(0, 3, 64))
    else:
        B, C, D = rng.standard_normal((64, 8, 1)) + 0j, rng.standard_normal((64, 1, 8)) + 0j, np.zeros((64, 1, 1))
        Lambda = 0.9 * np.exp(1j * rng.uniform(0, 3, (64, 8)))
    ssm = sr.DiagonalSSM(Lambda, B, C, D, conj_sym=True)
    u = rng.standard_normal((1, 4000, 8 if kind == "wide" else 64))
    alone = sr.simulate(ssm, u, threads=1)
    few_threads(started)
    np.testing.assert_array_equal(sr.simulate(ssm, u, threads=4), alone)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_a_process_without_room_for_threads_ends():
    run = subprocess.run([sys.executable, "-c", PROGRAM, "4"], capture_output=True, timeout=120, text=True)
    assert "True" in run.stdout or "MemoryError" in run.stderr


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_a_member_that_fails_ends_the_waiting_of_the_others(bad):
    waiting = threading.Event()

    def work(member):
        if member == bad:
            raise MemoryError
        assert waiting.wait(20)

    with pytest.raises(MemoryError):
        threads.together(work, 4, waiting.set)


def test_members_that_were_called_off_do_nothing_later(few_threads):
    few_threads(1)
    worked, waiting = [], threading.Event()

    def work(member):
        worked.append(member)
        assert waiting.wait(20)

    with pytest.raises(threads.TooFewThreads):
        threads.together(work, 3, waiting.set)
    threads._workers().shutdown(wait=True)
    assert set(worked) <= {1}


def test_parts_are_done_once_each_with_few_threads(few_threads):
    few_threads(1)
    done = []
    threads.for_each_part(lambda start, stop: done.extend(range(start, stop)), 100, 8)
    assert sorted(done) == list(range(100))


def test_an_error_in_a_part_is_not_swallowed():
    def work(start, stop):
        raise IndexError("of the work")

    with pytest.raises(IndexError, match="of the work"):
        threads.for_each_part(work, 10, 2)

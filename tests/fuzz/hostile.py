"""Hostile surroundings: other threads and processes, signals, no room, no descriptors, no threads."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import ssmreduce as sr
from ssmreduce._support import threads
from ssmreduce._support.whole import is_leftover
from ssmreduce.errors import SSMReduceError
from ssmreduce.models._checkpoints import read_file, write_file

PROGRAM = """
import sys, numpy as np
from ssmreduce.models._checkpoints import write_file
folder, suffix, which, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
together = sys.argv[5] == "one"
print("ready", flush=True)
try:
    for k in range(rounds):
        name = "x" if together else f"x{which}"
        write_file(f"{folder}/{name}{suffix}", {"a": np.full(2000 + 100 * which, float(which))}, {})
        print(k, flush=True)
except KeyboardInterrupt:
    sys.exit(9)
"""


def array(which):
    """What saver number `which` writes."""
    return np.full(2000 + 100 * which, float(which))


def holds(path, which=None):
    """Whether a file holds what one saver wrote, that one if it is named."""
    found = read_file(path)[0]["a"]
    saver = int(found[0]) if which is None else which
    return "right" if np.array_equal(found, array(saver)) else f"{path.name} holds something else"


def in_threads(folder, suffix, rounds, one):
    """Outcomes of savers in a pool that write different files, or all of them one."""

    def save(i):
        path = folder / (f"x{suffix}" if one else f"x{i % 16}{suffix}")
        try:
            write_file(path, {"a": array(i % 16)}, {})
            return holds(path, None if one else i % 16)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def exclusively(first):  # one thread a file, so that each reads what it wrote
        return [save(i) for i in range(first, rounds, 16)]

    with ThreadPoolExecutor(16) as pool:
        return [said for part in pool.map(exclusively, range(16)) for said in part] + strangers(folder, suffix)


def strangers(folder, suffix):
    """Files in a folder that nobody should have left."""
    return [f"{path.name} was left" for path in folder.iterdir() if path.suffix != suffix]


def namespaced():
    """How to start a process with the number 1, where that is allowed."""
    if shutil.which("unshare") is None:
        return None
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    return command if subprocess.run([*command, "true"], capture_output=True).returncode == 0 else None


def start(folder, suffix, which, rounds, one, before=()):
    """A process that saves again and again."""
    arguments = [str(folder), suffix, str(which), str(rounds), "one" if one else "own"]
    return subprocess.Popen(
        [*before, sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def in_processes(folder, suffix, rounds, one, before=()):
    """Outcomes of three processes that save at once."""
    running = [start(folder, suffix, which, rounds, one, before) for which in range(3)]
    said = []
    for which, process in enumerate(running):
        out, err = process.communicate(timeout=300)
        done = len(out.splitlines()) - 1
        said += ["right"] * (done - 1)
        said.append(holds(folder / (f"x{suffix}" if one else f"x{which}{suffix}"), None if one else which))
        if process.returncode or done != rounds:
            said.append(err.decode(errors="replace")[-200:] or "a process ended early")
    return said + strangers(folder, suffix)


def stopped(folder, suffix, number, delay):
    """Outcome of a saver that gets a signal after some of its saves."""
    write_file(folder / f"x{suffix}", {"a": array(0)}, {})
    with start(folder, suffix, 1, 10**6, True) as process:
        for _ in range(delay):
            process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=20)
    left = [path for path in folder.iterdir() if path.name != f"x{suffix}"]
    if any(not is_leftover(path) for path in left) or (left and number != signal.SIGKILL):
        return f"{left[0].name} was left"
    for path in left:
        try:
            read_file(path)
            return "a leftover was read"
        except SSMReduceError:
            path.unlink()
    return holds(folder / f"x{suffix}")


def with_little_room(folder, suffix, room):
    """Outcome of a save where no file can be larger than `room` bytes."""
    path, limits = folder / f"x{suffix}", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_file(path, {"a": array(0)}, {})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    return _under(resource.RLIMIT_FSIZE, limits, path, folder)


def with_few_descriptors(folder, suffix, spare):
    """Outcome of a save and a load with only so many descriptors left."""
    path, limits = folder / f"x{suffix}", resource.getrlimit(resource.RLIMIT_NOFILE)
    write_file(path, {"a": array(0)}, {})
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, limits[1]))
    return _under(resource.RLIMIT_NOFILE, limits, path, folder)


def _under(kind, limits, path, folder):
    try:
        write_file(path, {"a": array(5)}, {})
        said, which = "right", 5
        read_file(path)
    except SSMReduceError:
        said, which = "refused", None
    except Exception as error:
        said, which = f"{type(error).__name__}: {error}", None
    finally:
        resource.setrlimit(kind, limits)
    after = holds(path, which)
    return after if after != "right" else (strangers(folder, path.suffix) or [said])[0]


def with_few_threads(system, u, wanted, started):
    """Outcome of a simulation where only so many threads start."""
    begin = threading.Thread.start

    def limited(thread):
        nonlocal started
        if thread.name.startswith("ssmreduce"):
            started -= 1
            if started < 0:
                raise RuntimeError("can't start new thread")
        begin(thread)

    threads._workers.cache_clear()
    threading.Thread.start = limited
    try:
        return "right" if np.array_equal(sr.simulate(system, u, threads=6), wanted) else "other numbers"
    finally:
        threading.Thread.start = begin
        threads._workers.cache_clear()


def wide_layer(rng):
    """A layer that a team of threads runs, its input, and its output on one thread."""
    B, C = rng.standard_normal((128, 16)) + 0j, rng.standard_normal((16, 128)) + 0j
    ssm = sr.DiagonalSSM(0.9 * np.exp(1j * rng.uniform(0, 3, 128)), B, C, np.zeros((16, 16)), conj_sym=True)
    u = rng.standard_normal((1, 500, 16))
    return ssm, u, sr.simulate(ssm, u, threads=1)


def folder_of(base, name):
    """A new, empty folder."""
    path = Path(base) / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path

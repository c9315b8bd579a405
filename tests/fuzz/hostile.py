"""Hostile surroundings: other threads and processes, signals, no room, no descriptors, no threads."""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import ssmreduce as sr
from ssmreduce._support import threads
from ssmreduce._support.whole import is_leftover
from ssmreduce.errors import SSMReduceError
from ssmreduce.models._checkpoints import read_file, write_file

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["torch", "msgpack", "ssmreduce.models._checkpoints", "fuzz.hostile"])
_NEW_PROCESS_NUMBERS, _NEW_MOUNTS = 0x20000000, 0x00020000  # CLONE_NEWPID, CLONE_NEWNS
_PRIVATE = 0x4000 | 1 << 18  # MS_REC | MS_PRIVATE


def saver(said, path, which, rounds, alike):
    """Save again and again, in a process of its own; `said` hears of each, and of what went wrong."""
    try:
        if alike and not numbered_alike():
            return
        said.send("ready")
        for k in range(rounds):
            write_file(path, {"a": array(which)}, {})
            if rounds < ENDLESS:
                said.send(k)
    except KeyboardInterrupt:
        os._exit(9)
    except Exception as error:
        said.send(f"{type(error).__name__}: {error}")
    os._exit(0)  # a process that was forked here must not go back to the one that waits for it


ENDLESS = 10**9


def numbered_alike():
    """Go on in a process that has the number 1, as in a container; False in the one that waits for it."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_PROCESS_NUMBERS):
        raise OSError(ctypes.get_errno(), "no namespace")
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return False
    assert os.getpid() == 1
    return True


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


def namespaces():
    """Whether a process can have the number 1 here."""
    heard, said = _FORKED.Pipe(duplex=False)
    process = _FORKED.Process(target=saver, args=(said, os.devnull, 0, 0, True))
    process.start()
    process.join()
    return heard.poll() and heard.recv() == "ready"


@contextlib.contextmanager
def at_work(path, which, rounds, alike=False):
    """A process that saves, once it has begun, and what it says."""
    heard, said = _FORKED.Pipe(duplex=False)
    process = _FORKED.Process(target=saver, args=(said, path, which, rounds, alike))
    process.start()
    said.close()
    try:
        yield process, heard
    finally:
        process.kill()
        process.join()
        heard.close()


def in_processes(folder, suffix, rounds, one, alike=False):
    """Outcomes of three processes that save at once."""
    said = []
    with contextlib.ExitStack() as stack:
        paths = [folder / (f"x{suffix}" if one else f"x{which}{suffix}") for which in range(3)]
        running = [stack.enter_context(at_work(path, which, rounds, alike))[1] for which, path in enumerate(paths)]
        for which, heard in enumerate(running):
            words = list(everything(heard))
            said += ["right"] * (len(words) - 2)
            said.append(holds(paths[which], None if one else which))
            if words != ["ready", *range(rounds)]:
                said.append(f"a process ended early: {words[-1:]}")
    return said + strangers(folder, suffix)


def everything(heard):
    """What a process says until it ends."""
    with contextlib.suppress(EOFError):
        while True:
            yield heard.recv()


def stopped(folder, suffix, number, seconds):
    """Outcome of a saver that gets a signal after some time."""
    path = folder / f"x{suffix}"
    write_file(path, {"a": array(0)}, {})
    with at_work(path, 1, ENDLESS) as (process, heard):
        heard.recv()
        time.sleep(seconds)
        while process.is_alive():  # Python ignores an interrupt that comes in a destructor: then another one
            os.kill(process.pid, number)
            process.join(2)
        if number == signal.SIGINT and process.exitcode != 9:
            return f"it ended with {process.exitcode} and {list(everything(heard))}"
    left = [entry for entry in folder.iterdir() if entry != path]
    if any(not is_leftover(entry) for entry in left) or (left and number != signal.SIGKILL):
        for entry in left:
            entry.unlink()
        return f"{left[0].name} was left"
    for entry in left:
        try:
            read_file(entry)
            return "a leftover was read"
        except SSMReduceError:
            entry.unlink()
    return holds(path)


def with_little_room(folder, suffix, room):
    """Outcome of a save where no file can be larger than `room` bytes."""
    path, limits = folder / f"x{suffix}", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_file(path, {"a": array(0)}, {})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    return _under(resource.RLIMIT_FSIZE, limits, path, folder)


def on_a_full_disk(folder, suffix, sizes):
    """Outcomes of saves on a disk of 64 KiB; none where no disk can be mounted."""
    heard, said = _FORKED.Pipe(duplex=False)
    process = _FORKED.Process(target=small_disk, args=(said, folder, suffix, sizes))
    process.start()
    said.close()
    words = list(everything(heard))
    process.join()
    return words


def small_disk(said, folder, suffix, sizes):
    """Save arrays of these sizes on a small disk that only this process sees; `said` hears what came of each."""
    libc = ctypes.CDLL(None)
    place = os.fsencode(folder)
    if libc.unshare(_NEW_MOUNTS) or libc.mount(None, b"/", None, _PRIVATE, None):
        return
    if libc.mount(b"none", place, b"tmpfs", 0, b"size=64k"):
        return
    path, kept = folder / f"x{suffix}", None
    for size in sizes:
        try:
            write_file(path, {"a": np.full(size, float(size))}, {})
            outcome, kept = "right", size
        except SSMReduceError:
            outcome = "refused"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        if kept is not None and not np.array_equal(read_file(path)[0]["a"], np.full(kept, float(kept))):
            outcome = "the old file has changed"
        said.send((strangers(folder, suffix) or [outcome])[0])


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

"""Writing under attack: threads, killed processes, odd targets, permissions, damage between writing and renaming."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.files import assert_nothing_but, every_suffix
from support.oracles import assert_same_bits

from ssmreduce._support import whole
from ssmreduce.errors import CheckpointFormatError, WriteError
from ssmreduce.models import _checkpoints, _npz
from ssmreduce.models._checkpoints import read_file, write_file

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@every_suffix
def test_threads_that_save_different_files_do_not_meet(suffix, tmp_path):
    def save(i):
        write_file(tmp_path / f"x{i % 16}{suffix}", {"a": np.full(1000 + 500 * (i % 16), float(i % 16))}, {})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(64)))
    assert_nothing_but(tmp_path, *(f"x{i}{suffix}" for i in range(16)))
    for i in range(16):
        assert_same_bits(read_file(tmp_path / f"x{i}{suffix}")[0]["a"], np.full(1000 + 500 * i, float(i)))


def test_threads_that_save_one_file_leave_one_of_theirs(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_file(tmp_path / "x.npz", {"a": np.full(1000 + i, float(i))}, {}), range(48)))
    found = read_file(tmp_path / "x.npz")[0]["a"]
    assert_same_bits(found, np.full(1000 + int(found[0]), found[0]))


def test_processes_with_equal_numbers_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in two containers that share a volume
    names = []

    def slow(file):
        names.extend(entry.name for entry in tmp_path.iterdir())
        file.write(b"outer")
        if len(names) == 1:
            whole.write_whole(tmp_path / "inner", slow)

    whole.write_whole(tmp_path / "outer", slow)
    assert len(set(names)) == 2
    assert_nothing_but(tmp_path, "inner", "outer")


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_temporary_file_has_the_permissions_of_the_target_from_the_start(mode, tmp_path):
    target = tmp_path / "x"
    target.write_bytes(b"before")
    target.chmod(mode)
    seen = []

    def write(file):
        seen.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        file.write(b"after")

    whole.write_whole(target, write)
    assert seen == [mode]
    assert stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError, SystemExit])
def test_any_exception_removes_the_temporary_file_and_keeps_the_old_one(error, tmp_path):
    (tmp_path / "x").write_bytes(b"before")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        whole.write_whole(tmp_path / "x", write)
    assert_nothing_but(tmp_path, "x")
    assert (tmp_path / "x").read_bytes() == b"before"


def test_file_and_directory_are_brought_to_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(stat.S_IFMT(os.fstat(handle).st_mode)))
    whole.write_whole(tmp_path / "x", lambda file: file.write(b"content"))
    assert synced == [stat.S_IFREG] + [stat.S_IFDIR] * (os.name == "posix")


@pytest.mark.parametrize("no_thread", [False, True])
def test_a_disk_that_fails_keeps_the_old_file(no_thread, tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"before")

    def failing(handle):
        raise OSError(errno.EIO, "Input/output error")

    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "fsync", failing)
    if no_thread:
        monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(WriteError, match="Input/output error"):
        whole.write_whole(tmp_path / "x", lambda file: file.write(b"after"))
    assert_nothing_but(tmp_path, "x")
    assert (tmp_path / "x").read_bytes() == b"before"


def test_a_file_is_written_where_no_thread_can_be_started(tmp_path, monkeypatch):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    write_file(tmp_path / "x.npz", {"a": np.ones(3)}, {})
    assert_same_bits(read_file(tmp_path / "x.npz")[0]["a"], np.ones(3))


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_only_regular_files_are_replaced(kind, tmp_path):
    path = tmp_path / "x.npz"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(WriteError, match="not a regular file|symbolic links"):
        write_file(path, {"a": np.ones(2)}, {})
    assert_nothing_but(tmp_path, "x.npz")


@posix
def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "x.npz")


@posix
def test_a_killed_process_leaves_the_old_file_and_a_leftover_that_is_never_read(tmp_path):
    write_file(tmp_path / "x.npz", {"a": np.ones(2)}, {})
    program = (
        "import sys, time, numpy as np\n"
        "from ssmreduce._support.whole import write_whole\n"
        "def write(file):\n"
        f"    file.write(open({str(tmp_path / 'x.npz')!r}, 'rb').read()); file.flush(); print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        f"write_whole({str(tmp_path / 'x.npz')!r}, write)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    left = [path for path in tmp_path.iterdir() if path.name != "x.npz"]
    assert len(left) == 1
    assert whole.is_leftover(left[0])
    with pytest.raises(CheckpointFormatError, match="never finished"):
        read_file(left[0])
    assert_same_bits(read_file(tmp_path / "x.npz")[0]["a"], np.ones(2))
    write_file(tmp_path / "x.npz", {"a": np.zeros(2)}, {})
    assert left[0].exists()  # it could be somebody else's, at work


@posix
def test_an_interrupt_at_any_time_leaves_a_whole_file(tmp_path):
    program = (
        "import sys, numpy as np\n"
        "from ssmreduce.models._checkpoints import write_file\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True:\n"
        f"        for i in range(9): write_file({str(tmp_path / 'x.npz')!r}, {{'a': np.full(20000, float(i))}}, {{}})\n"
        "except KeyboardInterrupt: pass\n"
    )
    for delay in (0.0, 0.05, 0.1):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.2 + delay)
            process.send_signal(signal.SIGINT)
            process.wait(20)
        found = read_file(tmp_path / "x.npz")[0]["a"]
        assert_same_bits(found, np.full(20000, found[0]))
        assert_nothing_but(tmp_path, "x.npz")


@every_suffix
@pytest.mark.parametrize("damage", ["bit", "cut"])
def test_what_was_written_is_read_back_before_it_is_renamed(suffix, damage, tmp_path, monkeypatch):
    path, array = tmp_path / f"x{suffix}", np.arange(5000.0)
    write_file(path, {"a": np.ones(2)}, {})
    before = path.read_bytes()
    read_back = _checkpoints._read_back

    def damaged(path, temporary, check):
        content = bytearray(temporary.read_bytes())
        if damage == "cut":
            del content[-1]
        else:
            content[content.index(array[2500:2502].tobytes())] ^= 1
        temporary.write_bytes(content)
        read_back(path, temporary, check)

    monkeypatch.setattr(_checkpoints, "_read_back", damaged)
    with pytest.raises(WriteError, match="read back"):
        write_file(path, {"a": array}, {})
    assert path.read_bytes() == before
    assert_nothing_but(tmp_path, path.name)


def test_a_writer_that_loses_a_name_is_found_out(tmp_path, monkeypatch):
    write = _npz.write
    monkeypatch.setattr(_npz, "write", lambda file, arrays, **options: write(file, {"a": arrays["a"]}, **options))
    with pytest.raises(WriteError, match="'b' is missing"):
        write_file(tmp_path / "x.npz", {"a": np.ones(2), "b": np.ones(3)}, {})
    assert_nothing_but(tmp_path)


@posix
@pytest.mark.parametrize("path", ["a\0b.npz", "\ud800.npz"], ids=ascii)
def test_paths_that_no_file_can_have(path):
    with pytest.raises(WriteError):
        write_file(path, {"a": np.ones(2)}, {})
    with pytest.raises(OSError, match="cannot read"):
        read_file(path)

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codecbook.errors import CodecbookError
from codecbook.files import check_folder, check_target, new_file, refuse_same_file, write_file


def test_a_file_appears_when_the_block_succeeds(tmp_path):
    path = tmp_path / "deep" / "x.bin"
    with new_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with new_file(path, overwrite=True) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_kept_unless_overwrite_is_asked_for(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(CodecbookError, match="overwrite=True"), new_file(path):
        pytest.fail("the block must not run")
    with new_file(path, overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_another_writer_made_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x.bin"

    def overtaken() -> None:
        with new_file(path) as temporary:
            temporary.write_bytes(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(CodecbookError, match="exists"):
        overtaken()
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_never_replaced(tmp_path):
    with pytest.raises(CodecbookError, match="is a folder"), new_file(tmp_path, overwrite=True):
        pytest.fail("the block must not run")


def test_write_file_takes_bytes_and_text(tmp_path):
    assert write_file(tmp_path / "a", "ä\n").read_bytes() == "ä\n".encode()
    assert write_file(tmp_path / "a", b"\x00\r\n", overwrite=True).read_bytes() == b"\x00\r\n"
    with pytest.raises(CodecbookError, match="exists; pass overwrite=True"):
        write_file(tmp_path / "a", b"")


def _identity(path: Path) -> tuple[int, ...]:
    status = path.lstat()  # without the time of the last look at it
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket"])
def test_what_is_no_file_is_never_replaced(kind, overwrite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    special = Path("x")
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "socket":
            server.bind(str(special))
        else:
            os.mkfifo(special)
        path = Path("link") if "link" in kind else special
        if "link" in kind:
            path.symlink_to(special)
        before = _identity(path), _identity(special)
        with pytest.raises(CodecbookError, match=r"^(x|link) is a device, a pipe or a socket"):
            write_file(path, b"new", overwrite)
        assert (_identity(path), _identity(special)) == before
        assert not stat.S_ISREG(special.stat().st_mode)


def test_what_became_a_pipe_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x"

    def overtaken() -> None:
        with new_file(path, overwrite=True) as temporary:
            temporary.write_bytes(b"ours")
            os.mkfifo(path)

    with pytest.raises(CodecbookError, match="a pipe"):
        overtaken()
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_there", [True, False], ids=["link", "dangling link"])
def test_a_link_is_kept_and_its_file_replaced(is_there, tmp_path):
    target, link = tmp_path / "other" / "target", tmp_path / "link"
    link.symlink_to(Path("other") / "target")
    if is_there:
        target.parent.mkdir()
        target.write_bytes(b"old")
    with pytest.raises(CodecbookError, match="link exists"):
        write_file(link, b"new")
    assert target.exists() == is_there
    write_file(link, b"new", overwrite=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_a_link_to_itself_is_said(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(CodecbookError, match="leads back to itself"):
        write_file(tmp_path / "a", b"new", overwrite=True)


def _no_links(source: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted", str(source))


@pytest.mark.parametrize("has_links", [True, False])
def test_of_two_writers_one_succeeds(has_links, tmp_path, monkeypatch):
    if not has_links:
        monkeypatch.setattr(os, "link", _no_links)
    path, started = tmp_path / "x", threading.Barrier(8)
    outcomes: list[str] = []
    refusals: list[str] = []

    def write(name: str) -> None:
        try:
            with new_file(path) as temporary:
                temporary.write_bytes(name.encode())
                started.wait()  # all have found the name free
            outcomes.append(name)
        except CodecbookError as error:
            refusals.append(str(error))

    writers = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [path.read_text()] == outcomes
    assert refusals == [f"{path} exists; pass overwrite=True, or choose another name."] * 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path):
    path = write_file(tmp_path / ("ä" * 127 + "x"), b"new")
    assert path.read_bytes() == b"new"
    for check in (check_target, lambda path: write_file(path, b"")):
        with pytest.raises(CodecbookError, match="is too long: 256 bytes of at most 255"):
            check(tmp_path / "gone" / ("ä" * 128))
    assert list(tmp_path.iterdir()) == [path]


SIGNALLED = """
import os, signal, sys
from codecbook.files import new_file

with new_file(sys.argv[1]) as partial:
    partial.write_bytes(b"half")
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    killed = subprocess.run([sys.executable, "-c", SIGNALLED, tmp_path / "x", "SIGKILL"], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part"
    write_file(tmp_path / "y", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


def test_what_another_process_is_writing_stays(tmp_path):
    with subprocess.Popen([sys.executable, "-c", SIGNALLED, tmp_path / "x", "SIGSTOP"]) as writer:
        os.waitpid(writer.pid, os.WUNTRACED)
        write_file(tmp_path / "y", b"new")
        assert len(list(tmp_path.glob(".*.part"))) == 1
        writer.send_signal(signal.SIGCONT)
    assert writer.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"x", "y"}


def test_a_full_disk_is_found_before_the_work_and_named_after_it(room, tmp_path):
    for path in (tmp_path / "x", tmp_path / "deep" / "er" / "x"):
        with room(0), pytest.raises(OSError, match="File too large") as caught:
            check_target(path)
        assert caught.value.filename == str(path.parent)
    with room(0), pytest.raises(OSError, match="File too large") as caught:
        write_file(tmp_path / "x", b"new")
    assert caught.value.filename == str(tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_files_is_found_before_the_work(tmp_path, monkeypatch):
    def read_only(self: Path, mode: str = "r") -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "open", read_only)
    for path in (tmp_path, tmp_path / "deep"):
        with pytest.raises(OSError, match=f"Read-only file system: '{path}'"):
            check_folder(path)


def test_a_file_in_the_place_of_a_folder_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x"):
        for check in (check_target, lambda path: write_file(path, b"new"), check_folder):
            with pytest.raises(CodecbookError, match="file is no folder"):
                check(path)
    with pytest.raises(CodecbookError, match="file is no folder"):
        check_folder(tmp_path / "file")


def test_a_check_makes_nothing_and_refuses_what_a_writer_would(tmp_path):
    check_target(tmp_path / "deep" / "x")
    check_folder(tmp_path / "deep")
    assert not list(tmp_path.iterdir())
    with pytest.raises(CodecbookError, match="is a folder"):
        check_target(tmp_path, overwrite=True)
    path = write_file(tmp_path / "x", b"old")
    with pytest.raises(CodecbookError, match="exists"):
        check_target(path)
    check_target(path, overwrite=True)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x", b"old")]


@pytest.mark.parametrize("spelling", ["same", "relative", "link", "folder's link"])
def test_what_is_read_is_never_written_to(spelling, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write_file(tmp_path / "in" / "x", b"old")
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "inlink").symlink_to(source.parent)
    target = {"same": source, "relative": "in/../in/x", "link": "link", "folder's link": "inlink/x"}[spelling]
    with pytest.raises(CodecbookError, match="is the file that is read"):
        refuse_same_file(source, target)
    refuse_same_file(source, tmp_path / "in" / "y")
    refuse_same_file(tmp_path / "gone", tmp_path / "gone")

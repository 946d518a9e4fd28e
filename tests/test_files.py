import pytest

from codecbook.errors import CodecbookError
from codecbook.files import new_file, write_file


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

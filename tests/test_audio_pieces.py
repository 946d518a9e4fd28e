"""Audio written piece by piece: what is said where the system does not take it."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codecbook import audio
from codecbook.errors import UnsupportedInput


def pieces() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(4):
        yield rng.uniform(-0.5, 0.5, (1, 24_000)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_full_disk_is_told_by_the_systems_error(suffix: str, room: Callable, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    with room(20_000), pytest.raises(OSError, match="File too large") as caught:
        audio.save_pieces(pieces(), 24_000, 1, path)
    assert caught.value.filename == str(path)
    clip = audio.clip_from_array(np.concatenate(list(pieces()), axis=1), 24_000)
    with room(20_000), pytest.raises(OSError, match="File too large") as caught:
        audio.save(clip, path)
    assert caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_has_room_again_is_no_limit_of_the_format(tmp_path: Path) -> None:
    def fail() -> Iterator[np.ndarray]:
        yield from pieces()
        raise soundfile.LibsndfileError(2)

    with pytest.raises(OSError, match="try again") as caught:
        audio.save_pieces(fail(), 24_000, 1, tmp_path / "a.wav")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "a.wav"))
    assert not list(tmp_path.iterdir())


def test_what_a_format_cannot_hold_is_no_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput, match=r"9 channels at 24000 Hz .*write wav"):
        audio.save_pieces(iter([np.zeros((9, 100), dtype=np.float32)]), 24_000, 9, tmp_path / "a.flac")
    assert not list(tmp_path.iterdir())

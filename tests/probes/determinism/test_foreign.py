"""The command line; and real foreign roots, where they have been made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codecbook.errors import CodecbookError
from codecbook.probes.determinism.foreign import ARCHITECTURES, ForeignRoot, command, find_root, main

PRODUCTS = """
import hashlib, json, struct, sys
import numpy as np
generator = np.random.default_rng(7)
A, B = (generator.integers(-128, 128, (256, 256), dtype=np.int64) for _ in range(2))
def digest(array, kind):
    return hashlib.sha256(np.ascontiguousarray(array, dtype=kind).tobytes()).hexdigest()
print(json.dumps({
    "byte_order": sys.byteorder, "word_bits": 8 * struct.calcsize("P"), "input": digest(A, "<i8"),
    "integers": digest(A @ B, "<i8"), "floats": digest(A.astype(np.float32) @ B.astype(np.float32), "<f4"),
}))
"""
TORCH = """
import json, sys
import numba, numpy as np, torch
@numba.njit
def mixed(values):
    state = np.int64(1)
    for value in values:
        state = (state * 31 + value) & 0xFFFFFFFF
    return state
A = torch.arange(64 * 64, dtype=torch.float32).reshape(64, 64) % 251 - 125
print(json.dumps({"mixed": int(mixed(np.arange(1000))), "product": (A @ A).to(torch.int64).sum(0).tolist()}))
"""


def _root(arch: str) -> ForeignRoot:
    try:
        return find_root(arch)
    except CodecbookError as error:
        pytest.skip(str(error))


def _printed(words: list[str], folder: Path) -> dict:
    # the working directory takes the image of the memory that a crashed emulator leaves
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_products_of_integers_are_the_same_on_every_processor(arch: str, tmp_path: Path) -> None:
    """Products of int8 values sum to less than 2^24 here, so float32 holds every partial sum, in whatever order."""
    theirs = _printed(command(_root(arch), ["-c", PRODUCTS]), tmp_path)
    ours = _printed([sys.executable, "-c", PRODUCTS], tmp_path)
    assert (theirs.pop("byte_order"), theirs.pop("word_bits")) == (
        ARCHITECTURES[arch].byte_order,
        ARCHITECTURES[arch].word_bits,
    )
    assert theirs == {name: ours[name] for name in ("input", "integers", "floats")}


@pytest.mark.slow
def test_torch_and_numba_run_on_a_foreign_processor(tmp_path: Path) -> None:
    root = _root("arm64")
    if not root.has_torch:
        pytest.skip(
            f"{root.folder} has no PyTorch; run: python -m codecbook.probes.determinism.foreign make arm64 --torch"
        )
    theirs = _printed(command(root, ["-c", TORCH]), tmp_path)
    assert theirs == _printed([sys.executable, "-c", TORCH], tmp_path)


def test_list_says_how_to_make_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(ARCHITECTURES)
    assert f"make s390x --folder {tmp_path}" in lines[list(ARCHITECTURES).index("s390x")]


def test_run_without_a_root_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "arm64", "--folder", str(tmp_path), "--", "-c", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("codecbook: There is no foreign root for arm64")
    assert error.count("\n") == 1


def test_run_passes_arguments_and_the_status_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    emulator = tmp_path / "qemu-s390x-static"
    emulator.write_text('#!/bin/sh\nfor word; do echo "$word"; done\nexit 5\n')
    emulator.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "s390x" / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "s390x" / "usr" / "bin" / "python3.11").touch()
    content = {"suite": "bookworm", "python": "3.11.2", "packages": {}, "has_torch": False, "size_mb": 1.0}
    (tmp_path / "s390x" / "root.json").write_text(json.dumps({"format": 1, "arch": "s390x", **content}))
    assert main(["run", "s390x", "--folder", str(tmp_path), "--cpu", "z900", "--", "a.py", "--b", "c d"]) == 5
    words = capfd.readouterr().out.splitlines()
    assert words[:2] == ["-cpu", "z900"]
    assert words[-4:] == [str(tmp_path / "s390x" / "usr" / "bin" / "python3.11"), "a.py", "--b", "c d"]
    assert any(word.startswith("PYTHONPATH=") and word.endswith("lib") for word in words)

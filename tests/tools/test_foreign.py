"""Emulated Pythons: put together from packages that programs in place of apt's give; and real ones, where they lie."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codecbook.probes.determinism.cells import FULL_CELLS, Cell, roots_folder
from codecbook.probes.determinism.matrix import run_command

_spec = importlib.util.spec_from_file_location("foreign", Path(__file__).parents[2] / "tools" / "foreign.py")
assert _spec is not None
assert _spec.loader is not None
foreign = importlib.util.module_from_spec(_spec)
sys.modules["foreign"] = foreign  # where dataclasses look their module up
_spec.loader.exec_module(foreign)

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
# what is emulated says what it should say, or else its words and the variables that it got
EMULATOR = """#!/bin/sh
case "$*" in
*sys.byteorder*) echo "$FOUND" ;;
*) for word; do echo "$word"; done; echo "CPU $QEMU_CPU"; exit 5 ;;
esac
"""
UNPACK = """#!/bin/sh
mkdir -p "$3/usr/bin" "$3/home" "$3/etc"
touch "$3/usr/bin/python3.11"
ln -sf /usr/bin/python3.11 "$3/usr/bin/python3"
"""
FETCH = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/calls"
for word; do case "$word" in Dir::Cache=*) touch "${word#*=}/archives/python3.deb" ;; esac; done
"""


def test_the_processors_of_the_probe_can_be_emulated() -> None:
    assert {cell.processor for cell in FULL_CELLS if cell.processor} == set(foreign.ARCHITECTURES)


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of roots, with programs in place of apt's and the emulators."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"apt-get": FETCH, "dpkg-deb": UNPACK, "qemu-s390x-static": EMULATOR}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("CODECBOOK_ROOTS", str(tmp_path / "roots"))
    monkeypatch.setenv("FOUND", '["big", 64, 360.0]')
    return tmp_path / "roots"


def test_a_root_is_put_together_once_and_runs(roots: Path, tmp_path: Path, capsys) -> None:
    assert foreign.main(["s390x", "--torch"]) == foreign.main(["s390x"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(roots / "s390x" / "python")] * 2
    calls = (tmp_path / "bin" / "calls").read_text().splitlines()
    assert len(calls) == 2
    assert all("APT::Architecture=s390x" in call for call in calls)
    assert [path.name for path in roots.iterdir()] == ["s390x"]
    root = roots / "s390x"
    assert sorted(path.name for path in root.iterdir()) == ["etc", "python", "usr"], "an empty home hides the machine's"
    assert str((root / "usr/bin/python3").readlink()) == "python3.11"

    cell = Cell("big", backend="numpy", processor="s390x", processor_model="z900")
    done = subprocess.run([root / "python", "a.py", "c d"], capture_output=True, text=True, env=cell.environment())
    words = done.stdout.splitlines()
    assert done.returncode == 5, "the emulated program's status"
    assert words[:4] == ["-cpu", "z900", "-L", str(root)]
    assert words[-4:] == [str(root / "usr/bin/python3.11"), "a.py", "c d", "CPU z900"]
    library = Path(foreign.__file__).parents[1] / "lib"
    assert f"PYTHONPATH={library}:{root}/sp" in words
    assert run_command(cell, [str(root / "python")], tmp_path / "out.json", 60).status == "crashed"


@pytest.mark.parametrize("found", ['["little", 64, 360.0]', '["big", 32, 360.0]', '["big", 64, 359.0]'])
def test_a_python_that_is_not_what_it_should_be_is_not_kept(roots: Path, monkeypatch, capsys, found: str) -> None:
    monkeypatch.setenv("FOUND", found)
    assert foreign.main(["s390x"]) == 2
    assert f"{json.loads(found)}, not ['big', 64, 360.0]" in capsys.readouterr().err
    assert list(roots.iterdir()) == []


@pytest.mark.usefixtures("roots")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "arch"), (["arm65"], "arm65"), (["s390x", "--colour"], "--colour"),
        (["arm64"], "install the Debian package qemu-user-static"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_in_one_line(arguments: list[str], said: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr(foreign.shutil, "which", lambda name: None)  # whether or not an emulator is installed here
    try:
        status = foreign.main(arguments)
    except SystemExit as end:
        status = end.code
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1)
    assert said in error


def test_failures_leave_nothing_behind_and_what_is_no_root_is_not_touched(roots: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "bin" / "dpkg-deb").write_text("#!/bin/sh\necho the archive is damaged\nexit 2\n")
    assert foreign.main(["s390x"]) == 2
    assert "failed with status 2: the archive is damaged; mend that." in capsys.readouterr().err
    assert list(roots.iterdir()) == []
    (roots / "s390x").mkdir()
    (roots / "s390x" / "thesis.txt").write_text("precious")
    assert foreign.main(["s390x"]) == 2
    assert "exists, but is no root" in capsys.readouterr().err
    assert [path.name for path in (roots / "s390x").iterdir()] == ["thesis.txt"]


def _printed(python: Path, text: str, folder: Path) -> dict:
    if not python.is_file():
        pytest.skip(f"there is no {python}; make it with python tools/foreign.py")
    # the working directory takes the image of the memory that a crashed emulator leaves
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", text], capture_output=True, text=True, timeout=600, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("arch", foreign.ARCHITECTURES)
def test_products_of_integers_are_the_same_on_every_processor(arch: str, tmp_path: Path) -> None:
    """Products of int8 values sum to less than 2^24 here, so float32 holds every partial sum, in whatever order."""
    theirs = _printed(roots_folder() / arch / "python", PRODUCTS, tmp_path)
    ours = _printed(Path(sys.executable), PRODUCTS, tmp_path)
    expected = foreign.ARCHITECTURES[arch]
    assert (theirs.pop("byte_order"), theirs.pop("word_bits")) == (expected.byte_order, expected.word_bits)
    assert theirs == {name: ours[name] for name in ("input", "integers", "floats")}


@pytest.mark.slow
def test_torch_and_numba_run_on_a_foreign_processor(tmp_path: Path) -> None:
    root = roots_folder() / "arm64"
    if not (root / "sp").is_dir():
        pytest.skip(f"there is no {root / 'sp'}; make it with python tools/foreign.py arm64 --torch")
    assert _printed(root / "python", TORCH, tmp_path) == _printed(Path(sys.executable), TORCH, tmp_path)

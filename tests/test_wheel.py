"""The package as a wheel: complete, nothing beside it, and of use in a folder that is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import codecbook
from codecbook.paths import repository_dir


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, since building leaves folders behind."""
    root, source = repository_dir(), tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    shutil.copytree(root / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*command, "--wheel-dir", source / "out", source], check=True, env=environment, timeout=300)
    (made,) = (source / "out").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(unpacked: Path, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the command of the unpacked wheel, whose modules stand before those of the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CODECBOOK_")}
    return subprocess.run(
        [sys.executable, "-m", "codecbook", *arguments],
        capture_output=True, text=True, cwd=folder, timeout=120,
        env={**kept, "PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    lib = repository_dir() / "lib"
    files = {str(path.relative_to(lib)) for path in (lib / "codecbook").rglob("*") if path.is_file()}
    wanted = {name for name in files if "__pycache__" not in name and not name.endswith("README.md")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (about,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "codecbook = codecbook.__main__:main" in archive.read(about).decode()
    assert {name for name in held if not name.endswith("README.md")} == wanted
    assert wheel.stat().st_size < 2_000_000
    assert f"-{codecbook.__version__}-py3-none-any" in wheel.name


def test_it_works_in_any_folder(unpacked: Path, tmp_path: Path) -> None:
    assert run(unpacked, tmp_path, "--version").stdout == f"codecbook {codecbook.__version__}\n"
    listed = run(unpacked, tmp_path, "codecs", "list")
    assert listed.returncode == 0, listed.stderr
    assert "bundled" not in listed.stdout, "the models lie in a checkout"
    assert "mimi             pretrained, random:SEED, or a path" in listed.stdout
    clip = next((repository_dir() / "data/clips").glob("*.flac"))
    export = ("codecs", "export", str(clip), "--codec", "units_25hz", "--outdir", str(tmp_path / "tokens"))
    refused = run(unpacked, tmp_path, *export)
    assert refused.returncode == 2
    assert "run from a checkout, or set CODECBOOK_DATA" in refused.stderr
    assert refused.stderr.count("\n") == 1
    done = run(unpacked, tmp_path, *export, CODECBOOK_DATA=str(repository_dir() / "data"))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tokens").glob("*.npq"))

"""`make_root`: put a foreign Python together, try it, and move it to its place."""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.files import write_file
from codecbook.probes.determinism.foreign_apt import Source, debian_source, find_tool, run_tool, unpack_debian
from codecbook.probes.determinism.foreign_root import (
    ARCHITECTURES,
    FORMAT,
    MANIFEST,
    SITE,
    Architecture,
    ForeignRoot,
    command,
    find_architecture,
    find_emulator,
    find_root,
    place_of,
)

WHEELS = (
    "torch==2.7.1",  # the last one whose ordinary Arm64 wheel is for the CPU alone (99 MB); later ones need CUDA's
    "numpy==2.2.6",  # the newest that this numba takes
    "numba==0.61.2",  # has wheels for Python 3.10 to 3.13, and with it llvmlite 0.44
    "llvmlite==0.44.0",
    "safetensors==0.5.3",
    # what `import torch` needs
    "sympy==1.14.0",
    "mpmath==1.3.0",  # sympy wants < 1.4
    "networkx==3.4.2",
    "jinja2==3.1.6",
    "MarkupSafe==3.0.2",
    "filelock==3.18.0",
    "fsspec==2025.3.0",
    "typing_extensions==4.13.2",
)
"""What is installed beside PyTorch: all by exact version, as pip resolves nothing for another machine."""


def make_root(
    arch: str,
    folder: Path | None = None,
    with_torch: bool = False,
    on_progress: Callable[[str], None] = lambda line: None,
    suite: str = "",
    mirror: str = "",
) -> ForeignRoot:
    """Return the root of a processor; make it, or add PyTorch to it, where that is not done yet.

    Everything is put together in a folder beside, and renamed once a first run of the foreign Python has gone well;
    the manifest is written last. A root that was interrupted or damaged is made anew.

    Args:
        arch: One of `ARCHITECTURES`.
        folder: Folder of all roots; default `roots_folder`.
        with_torch: Have PyTorch, numba, safetensors and a newer numpy as well.
        on_progress: Called with a line about every step.
        suite: Debian suite; default the machine's own.
        mirror: Address of a Debian archive; default that of the machine's apt sources.

    Raises:
        UnsupportedInput: The processor is unknown or has no PyTorch, a tool is missing, this is no Debian and no mirror
            is named, or there is a root of another suite, or a folder that is no root.
        CodecbookError: Fetching, unpacking or the first run failed; nothing is left behind.
    """
    architecture = find_architecture(arch)
    if with_torch and not architecture.platforms:
        having = [name for name in ARCHITECTURES if ARCHITECTURES[name].platforms]
        raise UnsupportedInput(f"There is no PyTorch for {arch}; leave it out, or choose of {having}.")
    _require_tools(architecture)
    place = place_of(arch, folder)
    existing = _existing(arch, folder, suite)
    if existing is not None and (existing.has_torch or not with_torch):
        on_progress(f"{arch}: exists, {describe(existing)}")
        return existing
    place.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".{arch}.", dir=place.parent) as temporary:
        if existing is None:
            source = Source(mirror, suite or debian_source().suite, ()) if mirror else debian_source(suite)
            _make_base(architecture, source, Path(temporary), place, on_progress)
            existing = find_root(arch, folder)
        if with_torch and not existing.has_torch:
            _add_torch(architecture, existing, Path(temporary), on_progress)
    made = find_root(arch, folder)
    on_progress(f"{arch}: ready after {time.monotonic() - start:.0f} s, {describe(made)}")
    return made


def _require_tools(architecture: Architecture) -> None:
    find_emulator(architecture)
    packages = {"debootstrap": "debootstrap", "dpkg-deb": "dpkg", "gpgv": "gpgv"}
    missing = {tool: package for tool, package in packages.items() if not find_tool(tool)}
    if missing:
        raise UnsupportedInput(
            f"There is no program {', '.join(missing)}; install the Debian packages {' '.join(missing.values())}."
        )


def _existing(arch: str, folder: Path | None, suite: str) -> ForeignRoot | None:
    """Return the root that is there already, or nothing where it shall be made (anew)."""
    place = place_of(arch, folder)
    if not (place / MANIFEST).exists():
        if place.exists():
            raise UnsupportedInput(
                f"{place} exists, but is no foreign root; remove it, or name another folder."
            )
        return None
    try:
        root = find_root(arch, folder)
    except CodecbookError:
        return None  # ours, as the manifest's name says, but of no use any more
    if suite and suite != root.suite:
        raise UnsupportedInput(
            f"{place} is of suite {root.suite}, not {suite}; remove it, or name another folder."
        )
    return root


def _make_base(
    architecture: Architecture,
    source: Source,
    temporary: Path,
    place: Path,
    on_progress: Callable[[str], None],
) -> None:
    """Put Debian's Python and numpy together, try them, and move them to their place."""
    new, start = temporary / "root", time.monotonic()
    on_progress(f"{architecture.name}: fetching Debian {source.suite} from {source.uri}")
    count = unpack_debian(architecture.name, source, new)
    on_progress(f"{architecture.name}: {count} packages unpacked after {time.monotonic() - start:.0f} s")
    version = re.fullmatch(r"python(3\.\d+)", (new / "usr" / "bin" / "python3").resolve().name)
    if version is None:
        raise CodecbookError(f"The packages of {source.suite} hold no python3; choose another suite.")
    root = ForeignRoot(
        architecture.name, new, find_emulator(architecture), source.suite, version[1], {}, False, 0.0
    )
    _write_manifest(_tried(architecture, root, temporary, on_progress))
    if place.exists():  # of no use any more, as `_existing` found
        place.rename(temporary / "old")
    new.rename(place)


def _add_torch(
    architecture: Architecture, root: ForeignRoot, temporary: Path, on_progress: Callable[[str], None]
) -> None:
    """Put PyTorch and what goes with it into the root's site packages, and try them before they are moved there."""
    site, start = temporary / SITE, time.monotonic()
    on_progress(f"{root.arch}: fetching {', '.join(WHEELS)}")
    # what the wheels need is listed in full: pip would resolve it for this machine's Python
    tags = [word for platform in architecture.platforms for word in ("--platform", platform)]
    version = ".".join(root.python.split(".")[:2])
    run_tool(
        [
            sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--only-binary=:all:", "--target",
            str(site), "--implementation", "cp", "--python-version", version, *tags, *WHEELS,
        ],
        f"pip for {root.arch} with Python {version}",
    )  # fmt: skip
    on_progress(f"{root.arch}: {_size_mb(site):.0f} MB unpacked after {time.monotonic() - start:.0f} s")
    tried = _tried(architecture, root, temporary, on_progress, site)
    shutil.rmtree(
        root.folder / SITE, ignore_errors=True
    )  # from an attempt that was interrupted before its manifest
    site.rename(root.folder / SITE)
    _write_manifest(replace(tried, size_mb=_size_mb(root.folder)))


_TRIAL = """
import importlib.metadata, json, struct, sys, time
start = time.monotonic()
import numpy
if "torch" in sys.argv:
    import llvmlite, numba, safetensors.numpy, torch
packages = {}
for distribution in importlib.metadata.distributions():
    packages.setdefault(distribution.metadata["Name"], distribution.version)
packages["numpy"] = numpy.__version__
product = numpy.full((3, 5), 2.0, numpy.float32) @ numpy.full((5, 4), 3.0, numpy.float32)
print(json.dumps({
    "byte_order": sys.byteorder, "word_bits": 8 * struct.calcsize("P"), "python": sys.version.split()[0],
    "packages": packages, "product": float(product.sum()), "seconds": time.monotonic() - start,
}))
"""


def _tried(
    architecture: Architecture,
    root: ForeignRoot,
    temporary: Path,
    on_progress: Callable[[str], None],
    site: Path | None = None,
) -> ForeignRoot:
    """Run the foreign Python once; return the root with what it says of itself.

    Raises:
        CodecbookError: It does not run, or is not what it should be.
    """
    what = f"The first run of Python for {root.arch}"
    arguments = ["-c", _TRIAL, *(["torch"] if site else [])]
    # after a crash the emulator leaves an image of the memory in the working directory
    printed = run_tool(command(root, arguments, [site] if site else []), what, 900.0, temporary)
    try:
        facts: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        raise CodecbookError(
            f"{what} printed {printed[-200:]!r}, not what was asked; make it again."
        ) from error
    expected = (architecture.byte_order, architecture.word_bits, 360.0)
    found = (facts["byte_order"], facts["word_bits"], facts["product"])
    if found != expected:
        raise CodecbookError(
            f"{what} found byte order, word length and a sum of products {found}, not {expected}; try another "
            "version of the emulator."
        )
    on_progress(f"{root.arch}: tried; imports took {facts['seconds']:.1f} s")
    return replace(
        root, python=facts["python"], packages=facts["packages"], has_torch=site is not None,
        size_mb=_size_mb(root.folder),
    )  # fmt: skip


def _write_manifest(root: ForeignRoot) -> None:
    content = {"format": FORMAT, **asdict(root)}
    del content["folder"], content["emulator"]  # a root may be moved, and another emulator installed
    write_file(root.folder / MANIFEST, json.dumps(content, indent=1) + "\n", overwrite=True)


def _size_mb(folder: Path) -> float:
    files = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    return round(sum(path.lstat().st_size for path in files) / 1e6, 1)


def describe(root: ForeignRoot) -> str:
    """Return a line with the versions, size and folder of a root."""
    names = [name for name in ("numpy", "torch", "numba") if name in root.packages]
    versions = "".join(f", {name} {root.packages[name]}" for name in names)
    return f"Python {root.python}{versions}, {root.size_mb:.0f} MB at {root.folder}"

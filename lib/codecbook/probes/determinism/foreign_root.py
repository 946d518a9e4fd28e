"""`ForeignRoot`: where a foreign Python lies, whether it is whole, and the command that runs it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.probes.determinism.foreign_apt import find_tool

MANIFEST = "root.json"
FORMAT = 1
SITE = "sp"  # folder of packages that are not Debian's
_MODULE = "codecbook.probes.determinism.foreign"


@dataclass(frozen=True)
class Architecture:
    """A processor that can be emulated.

    Attributes:
        name: Debian's name.
        emulator: The emulator's name.
        triple: Name of the folders of libraries.
        byte_order: ``"little"`` or ``"big"``.
        word_bits: Length of an address.
        cpu: Model that is emulated where none is asked for.
        platforms: Tags of its wheels of PyTorch; empty where there are none.
    """

    name: str
    emulator: str
    triple: str
    byte_order: str
    word_bits: int
    cpu: str
    platforms: tuple[str, ...] = ()


_ARM64_WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("arm64", "aarch64", "aarch64-linux-gnu", "little", 64, "max", _ARM64_WHEELS),
        Architecture("s390x", "s390x", "s390x-linux-gnu", "big", 64, "max"),
        # there is no "max"; with "power8" qemu 7.2 meets an illegal instruction while numpy is imported
        Architecture("ppc64el", "ppc64le", "powerpc64le-linux-gnu", "little", 64, "power9"),
        Architecture("armhf", "arm", "arm-linux-gnueabihf", "little", 32, "max"),
        # with "max" a float GEMM of OpenBLAS crashes under qemu 7.2; this is an Atom with SSSE3
        Architecture("i386", "i386", "i386-linux-gnu", "little", 32, "n270"),
    )
}
"""Processors by Debian's name."""


@dataclass(frozen=True)
class ForeignRoot:
    """A foreign Python that has been tried once.

    Attributes:
        arch: One of `ARCHITECTURES`.
        folder: Where it lies.
        emulator: Path of the program that runs it.
        suite: The Debian suite it is from.
        python: Version, such as ``"3.11.2"``.
        packages: Versions of Python packages by name.
        has_torch: Whether PyTorch, numba and safetensors are there.
        size_mb: Disk space when it was made.
    """

    arch: str
    folder: Path
    emulator: str
    suite: str
    python: str
    packages: Mapping[str, str]
    has_torch: bool
    size_mb: float  # MB


def roots_folder() -> Path:
    """Return the folder of all roots: ``CODECBOOK_ROOTS``, or one in the user's cache folder."""
    named = os.environ.get("CODECBOOK_ROOTS")
    if named:
        return Path(named).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).expanduser().resolve() / "codecbook" / "roots"


def find_root(arch: str, folder: Path | None = None) -> ForeignRoot:
    """Return the root of a processor, after a look whether it is whole.

    Args:
        arch: One of `ARCHITECTURES`.
        folder: Folder of all roots; default `roots_folder`.

    Raises:
        UnsupportedInput: There is no such processor, the root is of another format, or there is no emulator.
        CodecbookError: There is no root; the message says how to make it.
        CorruptInput: The manifest is damaged or the Python is gone.
    """
    architecture = find_architecture(arch)
    root = place_of(arch, folder)
    path = root / MANIFEST
    if not path.is_file():
        raise CodecbookError(f"There is no foreign root for {arch} at {root}; {_how_to_make(arch, folder)}.")
    remedy = f"remove the folder {root}, and {_how_to_make(arch, folder)}"
    content = _read_manifest(path, remedy)
    if content.get("format") != FORMAT or content.get("arch") != arch:
        raise UnsupportedInput(
            f"{path} is of format {content.get('format')!r} and processor {content.get('arch')!r}, not of "
            f"{FORMAT} and {arch!r}; {remedy}."
        )
    emulator = find_emulator(architecture)
    try:
        packages = {str(name): str(version) for name, version in content["packages"].items()}
        found = ForeignRoot(
            arch, root, emulator, str(content["suite"]), str(content["python"]), packages,
            bool(content["has_torch"]), float(content["size_mb"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptInput(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}.") from error
    if not python_of(found).is_file():
        raise CorruptInput(f"{python_of(found)} is missing; {remedy}.")
    if found.has_torch and not (root / SITE / "torch").is_dir():
        raise CorruptInput(f"{root / SITE / 'torch'} is missing; {remedy}.")
    return found


def _read_manifest(path: Path, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # neither JSON nor text
        raise CorruptInput(f"{path} is damaged ({error}); {remedy}.") from error
    if not isinstance(content, dict):
        raise CorruptInput(f"{path} is damaged (it holds a {type(content).__name__}); {remedy}.")
    return content


def command(
    root: ForeignRoot,
    arguments: Sequence[str],
    python_path: Sequence[Path | str] = (),
    environment: Mapping[str, str] | None = None,
    cpu: str = "",
) -> list[str]:
    """Return the command that runs a foreign Python; other environment variables are inherited.

    Args:
        root: The Python.
        arguments: Its arguments, as after ``python``.
        python_path: Folders to import from, before the root's own.
        environment: Variables of the foreign process.
        cpu: Model that the emulator takes, with its options, such as ``"max,sve-default-vector-length=32"``; default
            that of the architecture. ``qemu-…-static -cpu help`` lists the models.

    Raises:
        UnsupportedInput: A folder's name has a colon, which separates folders in search paths.
    """
    architecture = find_architecture(root.arch)
    paths = [*map(str, python_path), *([str(root.folder / SITE)] if root.has_torch else [])]
    if any(":" in path for path in [*paths, str(root.folder)]):
        raise UnsupportedInput(
            f"A folder among {[*paths, str(root.folder)]} has a colon in its name; move it."
        )
    libraries = root.folder / "usr" / "lib" / architecture.triple
    # Debian chooses the linear algebra library by links that are made at installation; here the order of folders does
    folders = [libraries / "openblas-pthread", libraries, root.folder / "lib" / architecture.triple]
    variables = {
        "PYTHONHOME": str(root.folder / "usr"),
        "PYTHONPATH": ":".join(paths),
        "PYTHONNOUSERSITE": "1",  # the user's packages are this machine's
        "LD_LIBRARY_PATH": ":".join(map(str, folders)),
        # kernels of two versions of numba in one cache would displace each other
        "NUMBA_CACHE_DIR": str(root.folder / "cache" / "numba"),
        **(environment or {}),
    }
    settings = [word for name, value in variables.items() for word in ("-E", f"{name}={value}")]
    model = cpu or architecture.cpu
    return [
        root.emulator, "-cpu", model, "-L", str(root.folder), "-U", "LD_PRELOAD", *settings,
        str(python_of(root)), *arguments,
    ]  # fmt: skip


def find_architecture(arch: str) -> Architecture:
    """Return what is known of a processor, or raise UnsupportedInput where it is none of `ARCHITECTURES`."""
    if arch not in ARCHITECTURES:
        raise UnsupportedInput(f"There is no processor {arch!r}; choose of {', '.join(ARCHITECTURES)}.")
    return ARCHITECTURES[arch]


def place_of(arch: str, folder: Path | None) -> Path:
    """Return the folder of a root within a folder of all roots."""
    return (roots_folder() if folder is None else Path(folder).resolve()) / arch


def _how_to_make(arch: str, folder: Path | None) -> str:
    return f"run: python -m {_MODULE} make {arch}" + (f" --folder {folder}" if folder is not None else "")


def find_emulator(architecture: Architecture) -> str:
    """Return the path of the emulator, or raise UnsupportedInput that names its package."""
    for name in (f"qemu-{architecture.emulator}-static", f"qemu-{architecture.emulator}"):
        if path := find_tool(name):
            return path
    raise UnsupportedInput(
        f"There is no program qemu-{architecture.emulator}-static, which runs {architecture.name} programs; install "
        "the Debian package qemu-user-static (Linux only)."
    )


def python_of(root: ForeignRoot) -> Path:
    """Return the path of the foreign interpreter."""
    return root.folder / "usr" / "bin" / f"python{'.'.join(root.python.split('.')[:2])}"

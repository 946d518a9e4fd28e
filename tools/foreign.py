"""Make Pythons of other processors that this machine runs in emulation, for the cells of the determinism probe.

    python tools/foreign.py arm64 s390x --torch

User-mode emulation (qemu) runs programs of another processor: other vector units, other kernels of the linear algebra
library, other orders of summation, another byte order, another word length. A root is a folder with Debian's Python and
numpy of such a processor, for Arm64 with PyTorch and numba as well. The emulator reads it in place: it takes neither a
chroot, nor a registration with the kernel, nor an administrator's rights. Emulated floating point follows IEEE 754 as
the processor would, so a hash says what that processor computes; times say nothing about it.

Packages are those of the machine's own apt sources, which apt itself chooses, fetches and checks the signatures of. The
file ``python`` of a root runs it: ``PYTHONPATH`` is read as usual, and ``QEMU_CPU`` names another model of processor
(``qemu-aarch64-static -cpu help`` lists them). Such a Python cannot start itself again, as the kernel does not know its
programs. Roots lie in ``CODECBOOK_ROOTS``, or in the user's cache folder.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codecbook.command_line import ArgumentParser, exit_status
from codecbook.errors import CodecbookError, UnsupportedInput
from codecbook.probes.determinism.cells import roots_folder


@dataclass(frozen=True)
class Architecture:
    """A processor: its names for qemu and for folders of libraries, what it is, and the model that is emulated."""

    emulator: str
    triple: str
    byte_order: str
    word_bits: int
    cpu: str = "max"


ARCHITECTURES = {
    "arm64": Architecture("aarch64", "aarch64-linux-gnu", "little", 64),
    "s390x": Architecture("s390x", "s390x-linux-gnu", "big", 64),
    # there is no "max"; with "power8" qemu 7.2 meets an illegal instruction while numpy is imported
    "ppc64el": Architecture("ppc64le", "powerpc64le-linux-gnu", "little", 64, "power9"),
    "armhf": Architecture("arm", "arm-linux-gnueabihf", "little", 32),
    # with "max" a float GEMM of OpenBLAS crashes under qemu 7.2; this is an Atom with SSSE3
    "i386": Architecture("i386", "i386-linux-gnu", "little", 32, "n270"),
}
"""By Debian's names."""

PACKAGES = ("base-files", "python3", "python3-numpy", "libgomp1", "libopenblas0-pthread", "libstdc++6")
# What a Python uses. The emulator looks up every absolute path in the root first, so an empty home or tmp of the root
# would hide the machine's own.
KEPT = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr")

WHEELS = (
    "torch==2.7.1",  # the last one whose ordinary Arm64 wheel is for the CPU alone (99 MB); later ones need CUDA's
    "numpy==2.2.6",  # the newest that this numba takes
    "numba==0.61.2",  # has wheels for Python 3.10 to 3.13, and with it llvmlite 0.44
    "llvmlite==0.44.0",
    "safetensors==0.5.3",
    # what `import torch` needs
    "sympy==1.14.0", "mpmath==1.3.0", "networkx==3.4.2", "jinja2==3.1.6", "MarkupSafe==3.0.2", "filelock==3.18.0",
    "fsspec==2025.3.0", "typing_extensions==4.13.2",
)  # fmt: skip
"""All by exact version, as pip resolves nothing for another machine."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")

# Debian chooses the linear algebra library by links that are made at installation; here the order of folders does.
# The user's own packages are this machine's, and kernels of two versions of numba in a cache would displace each other.
LAUNCHER = """#!/bin/sh
# Python of {arch}, emulated
root=$(cd "$(dirname "$0")" && pwd)
libraries=$root/usr/lib/{triple}
exec {emulator} -cpu "${{QEMU_CPU:-{cpu}}}" -L "$root" -U LD_PRELOAD -E PYTHONHOME="$root/usr" -E PYTHONNOUSERSITE=1 \\
    -E PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}$root/sp" -E NUMBA_CACHE_DIR="$root/cache/numba" \\
    -E LD_LIBRARY_PATH="$libraries/openblas-pthread:$libraries:$root/lib/{triple}" "$root/usr/bin/{python}" "$@"
"""

TRIAL = """
import json, struct, sys
import numpy
if "torch" in sys.argv:
    import llvmlite, numba, safetensors.numpy, torch
product = numpy.full((3, 5), 2.0, numpy.float32) @ numpy.full((5, 4), 3.0, numpy.float32)
print(json.dumps([sys.byteorder, 8 * struct.calcsize("P"), float(product.sum())]))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make roots that are not there yet, and return the exit status."""
    parser = ArgumentParser(prog="python tools/foreign.py", description="Pythons of other processors, emulated.")
    parser.add_argument("arch", nargs="+", choices=list(ARCHITECTURES))
    parser.add_argument("--torch", action="store_true", help="with PyTorch, where the processor has it (arm64)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: make_roots(options.arch, options.torch), options=options)


def make_roots(names: Sequence[str], with_torch: bool) -> int:
    """Make roots, or add PyTorch to them; what is there is left as it is.

    Raises:
        CodecbookError: A tool is missing, or fetching, unpacking or the first run failed; nothing is left behind.
    """
    for name in names:
        root = roots_folder() / name
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=root.parent) as temporary:
            if not (root / "python").is_file():
                if root.exists():
                    raise UnsupportedInput(f"{root} exists, but is no root; remove it, or set CODECBOOK_ROOTS.")
                add_debian(name, Path(temporary)).rename(root)
            if with_torch and name == "arm64" and not (root / "sp").exists():
                add_wheels(root, Path(temporary)).rename(root / "sp")
        print(f"{root / 'python'}")
    return 0


def add_debian(name: str, temporary: Path) -> Path:
    """Fetch, unpack and try Debian's Python of a processor; return the folder."""
    architecture, root, apt = ARCHITECTURES[name], temporary / "root", temporary / "apt"
    emulators = (f"qemu-{architecture.emulator}-static", f"qemu-{architecture.emulator}")
    emulator = next(filter(shutil.which, emulators), None)
    if emulator is None:
        raise UnsupportedInput(f"There is no program {emulators[0]}; install the Debian package qemu-user-static.")
    for folder in (root, apt / "state/lists/partial", apt / "cache/archives/partial"):
        folder.mkdir(parents=True)
    (apt / "status").touch()
    settings = {
        "Dir::State": apt / "state", "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache",
        "APT::Architecture": name, "APT::Architectures": name, "APT::Install-Recommends": 0, "Debug::NoLocking": 1,
        "APT::Sandbox::User": "",
    }  # fmt: skip
    apt_get = ["apt-get", "-q", "-y", *(word for k, v in settings.items() for word in ("-o", f"{k}={v}"))]
    try:
        run([*apt_get, "update"], f"Fetching the package lists for {name}")
    except CodecbookError as error:  # of one source, perhaps; what is then missing, the next step names
        print(error, file=sys.stderr)
    run([*apt_get, "install", "--download-only", *PACKAGES], f"Fetching the packages for {name}")
    unpack = f'for package in "{apt}"/cache/archives/*.deb; do dpkg-deb -x "$package" "{root}" || exit; done'
    run(["sh", "-c", unpack], f"Unpacking the packages for {name}")
    for path in root.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path)
    make_links_relative(root)
    python = (root / "usr/bin/python3").resolve().name
    launcher = LAUNCHER.format(arch=name, emulator=emulator, python=python, triple=architecture.triple,
                               cpu=architecture.cpu)  # fmt: skip
    (root / "python").write_text(launcher)
    (root / "python").chmod(0o755)
    found = json.loads(run([str(root / "python"), "-c", TRIAL], f"The first run of Python for {name}", temporary))
    expected = [architecture.byte_order, architecture.word_bits, 360.0]
    if found != expected:
        raise CodecbookError(
            f"Byte order, word length and a sum of products of {name} are {found}, not {expected}; try another version "
            "of the emulator."
        )
    return root


def add_wheels(root: Path, temporary: Path) -> Path:
    """Fetch and try PyTorch and what goes with it; return the folder."""
    site = temporary / "sp"
    version = run([str(root / "python"), "-c", "import sys; print(*sys.version_info[:2], sep='.')"], "Python").strip()
    tags = [word for platform in PLATFORMS for word in ("--platform", platform)]
    run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--only-binary=:all:", "--target",
         str(site), "--implementation", "cp", "--python-version", version, *tags, *WHEELS],
        f"Fetching PyTorch for Python {version}",
    )  # fmt: skip
    run(
        ["env", f"PYTHONPATH={site}", str(root / "python"), "-c", TRIAL, "torch"], "The first run of PyTorch", temporary
    )
    return site


def make_links_relative(folder: Path) -> None:
    """Turn absolute links within a root, which would lead to this machine's files, into relative ones."""
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent) / name for name in folders + files):
            if path.is_symlink() and path.readlink().is_absolute():
                target = folder / path.readlink().relative_to("/")
                path.unlink()
                path.symlink_to(os.path.relpath(target, path.parent))


def run(command: Sequence[str], what: str, folder: Path | None = None) -> str:
    """Run a program, and return what it printed; after a crash the emulator leaves a file in the working directory."""
    print(what, file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder)
    except OSError as error:
        raise CodecbookError(f"{what} failed: {error}; install the program.") from error
    if done.returncode:
        last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise CodecbookError(f"{what} failed with status {done.returncode}: {last or 'it printed nothing'}; mend that.")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

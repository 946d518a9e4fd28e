"""Build Opus 1.5.2 with what its packages leave out: deep redundancy (DRED), beside deep concealment (PLC).

    python tools/build_opus.py FOLDER

The source is Debian's package ``opus`` of the release that has this version, from the mirror of the machine's own apt
sources; its SHA-256 is checked. ``--source`` takes an archive that is there already, such as the project's own release
of that version, which holds the same networks. Needs a C compiler and make, and takes a minute. The library's path is
printed last; give it to `codecbook.probes.corruption.opus.Opus`, or to notebook 06 as ``opus_path``.
"""

import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from foreign import run

from codecbook.command_line import ArgumentParser, exit_status
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import sha256_of
from codecbook.probes.corruption.opus import Opus

VERSION, RELEASE = "1.5.2", "trixie"
SHA256 = "65c1d2f78b9f2fb20082c38cbe47c951ad5839345876e46941612ee87f9a7ce1"  # of the archive with the sources
OPTIONS = ("--enable-dred", "--enable-deep-plc", "--enable-osce", "--enable-lossgen", "--disable-static",
           "--disable-doc", "--disable-extra-programs")  # fmt: skip
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the library, and return the exit status."""
    parser = ArgumentParser(prog="python tools/build_opus.py", description="Opus with deep redundancy.")
    parser.add_argument("folder", type=Path, help="for the library; made where it does not exist")
    parser.add_argument("--source", type=Path, help=f"archive with the sources of Opus {VERSION}")
    options = parser.parse_args(arguments)
    return exit_status(lambda: build(options.folder, options.source), options=options)


def build(folder: Path, source: Path | None) -> int:
    """Build into a folder, unless it holds the library already, and try it.

    Raises:
        CorruptInput: Another archive than that of this version.
        CodecbookError: A tool is missing, or a step failed.
    """
    library = folder.resolve() / "lib" / "libopus.so.0"
    if not library.is_file():
        with tempfile.TemporaryDirectory(prefix="opus.") as name:
            temporary = Path(name)
            archive = source or fetch(temporary)
            if sha256_of(archive) != SHA256:
                raise CorruptInput(f"{archive} is not the archive of Opus {VERSION}, by its SHA-256; fetch it again.")
            with tarfile.open(archive) as files:
                files.extractall(temporary, filter="data")
            inside = temporary / f"opus-{VERSION}"
            run(["./configure", f"--prefix={folder.resolve()}", *OPTIONS], "Configuring", inside)
            run(["make", "-j2"], "Compiling", inside)
            run(["make", "install"], "Installing", inside)
    opus = Opus(library)
    if not (opus.dred and opus.deep_plc):
        raise UnsupportedInput(f"{library} has no DRED or deep PLC; remove it, and build it again.")
    print(library)
    return 0


def fetch(temporary: Path) -> Path:
    """Fetch the archive by apt, with settings and package lists of its own; return its path."""
    if not shutil.which("apt-get"):
        raise UnsupportedInput(f"There is no apt-get here; give the archive of Opus {VERSION} as --source.")
    listed = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)"], "Looking up the mirror")
    mirrors = [line.split()[1] for line in listed.splitlines() if line.startswith("Debian http")]
    if not mirrors:
        raise UnsupportedInput(f"apt knows no mirror of Debian here; give the archive of Opus {VERSION} as --source.")
    sources = temporary / "sources.list"
    sources.write_text(f"deb-src [signed-by={KEYRING}] {mirrors[0]} {RELEASE} main\n")
    for part in ("state/lists/partial", "cache/archives/partial"):
        (temporary / part).mkdir(parents=True)
    settings = {
        "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null", "Dir::State": temporary / "state",
        "Dir::Cache": temporary / "cache", "Debug::NoLocking": 1, "APT::Sandbox::User": "",
    }  # fmt: skip
    apt_get = ["apt-get", "-q", *(word for k, v in settings.items() for word in ("-o", f"{k}={v}"))]
    run([*apt_get, "update"], "Fetching the package lists")
    run([*apt_get, "source", "--download-only", "opus"], "Fetching the sources", temporary)
    return temporary / f"opus_{VERSION}.orig.tar.gz"


if __name__ == "__main__":
    sys.exit(main())

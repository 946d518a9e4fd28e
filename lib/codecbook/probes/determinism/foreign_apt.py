"""Debian packages of another processor: which archive this machine takes its own from, and how theirs are unpacked.

The archive is the one in the machine's apt sources (sources.list(5), both formats), so a mirror that a site has set
up is used here as well. Packages are fetched by ``debootstrap --download-only``, which checks the archive's
signatures and needs no rights, and unpacked by ``dpkg-deb``; nothing of them is run.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codecbook.errors import CodecbookError, UnsupportedInput

_PACKAGES = ("python3", "python3-numpy", "libgomp1", "libopenblas0-pthread")
_SCHEMES = ("http://", "https://", "file:/")
_MIRROR_LIST = "mirror+file:"
_ROLLING = ("stable", "testing", "unstable", "sid", "oldstable", "oldoldstable")
_TOOL_FOLDERS = ("/usr/sbin", "/sbin")  # debootstrap lies there, and a user's PATH may not have it
# What a Python without a second stage uses. The emulator looks up every absolute path in the root first, so an empty
# home or tmp of the root would hide the machine's own.
_KEPT = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr")
_UNUSED = ("doc", "info", "locale", "man")


@dataclass(frozen=True)
class Source:
    """One suite of an apt source.

    Attributes:
        uri: The archive.
        suite: Such as ``"bookworm"``.
        components: Such as ``("main",)``.
        signed_by: Keyring or key, as written; empty where the source names none.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


def parse_list(text: str) -> list[Source]:
    """Return the sources of binary packages in the one-line format: ``deb [options] URI suite components``."""
    sources = []
    for line in text.splitlines():
        words = line.split("#")[0].replace("[", " [ ").replace("]", " ] ").split()
        if words[:1] != ["deb"]:
            continue
        options: list[str] = []
        if words[1:2] == ["["] and "]" in words:
            end = words.index("]")
            options, words = words[2:end], words[:1] + words[end + 1 :]
        if len(words) >= 3:
            signed = [option.partition("=")[2] for option in options if option.startswith("signed-by=")]
            sources.append(Source(words[1], words[2], tuple(words[3:]), "".join(signed[:1])))
    return sources


def parse_deb822(text: str) -> list[Source]:
    """Return the sources of binary packages in the deb822 format: stanzas of ``Field: value``."""
    sources = []
    for stanza in _stanzas(text):
        if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() == "no":
            continue
        components = tuple(stanza.get("components", "").split())
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                sources.append(Source(uri, suite, components, stanza.get("signed-by", "")))
    return sources


def _stanzas(text: str) -> list[dict[str, str]]:
    stanzas: list[dict[str, str]] = [{}]
    field = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
        elif line[0] in " \t":
            if field in stanzas[-1]:
                stanzas[-1][field] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            field = name.strip().lower()
            stanzas[-1][field] = value.strip()
    return stanzas


def debian_source(
    suite: str = "", apt: Path = Path("/etc/apt"), release: Path = Path("/etc/os-release")
) -> Source:
    """Return where this machine takes Debian itself from.

    Args:
        suite: Take this suite of that archive; empty takes the machine's own.
        apt: Folder of apt's settings.
        release: File that names the distribution (os-release(5)).

    Raises:
        UnsupportedInput: This is no Debian, or no source has its suite.
    """
    content = release.read_text() if release.is_file() else ""
    facts: dict[str, str] = {}
    for word in shlex.split(content, comments=True):
        name, _, value = word.partition("=")
        facts[name] = value
    if facts.get("ID") != "debian":
        raise UnsupportedInput(
            f"This machine runs {facts.get('ID', 'an unknown system')!r}, not Debian, so its package archive need not "
            "have packages of other processors; name the mirror and the suite of a Debian archive."
        )
    sources = [source for source in _read_sources(apt) if "main" in source.components]
    named = (facts.get("VERSION_CODENAME", ""), *_ROLLING)
    # others publish suites of the same names: Debian's own keyring tells the archive, then the order of the files
    found = sorted(
        (source for source in sources if source.suite in named),
        key=lambda source: ("debian-archive" not in source.signed_by, named.index(source.suite)),
    )
    for source in found:
        uri = _plain_uri(source.uri)
        if uri:
            return Source(uri, suite or source.suite, source.components, source.signed_by)
    raise UnsupportedInput(
        f"No source in {apt} has the component main of one of the suites {named}; found "
        f"{[(source.uri, source.suite) for source in sources]}. Name the mirror and the suite."
    )


def _read_sources(apt: Path) -> list[Source]:
    """Return all sources; those of the files that Debian's installers write come first."""
    own = [apt / "sources.list", apt / "sources.list.d" / "debian.sources"]
    others = sorted((apt / "sources.list.d").glob("*.list")) + sorted(
        (apt / "sources.list.d").glob("*.sources")
    )
    sources: list[Source] = []
    for path in [*own, *(path for path in others if path not in own)]:
        if path.is_file():
            parse = parse_list if path.suffix == ".list" else parse_deb822
            sources += parse(path.read_text(encoding="utf-8", errors="replace"))
    return sources


def _plain_uri(uri: str) -> str:
    """Return an address that debootstrap takes; of a list of mirrors the first; empty where there is none."""
    if uri.startswith(_MIRROR_LIST):
        path = Path(uri.removeprefix(_MIRROR_LIST))
        lines = path.read_text().splitlines() if path.is_file() else []
        uri = next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), "")
    return uri if uri.startswith(_SCHEMES) else ""


def find_tool(name: str) -> str:
    """Return the path of a program, or nothing; PATH and the folders of administrators' tools are searched."""
    return (
        shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_TOOL_FOLDERS])) or ""
    )


def run_tool(
    arguments: Sequence[str], what: str, timeout_s: float = 1800.0, folder: Path | None = None
) -> str:
    """Run a program, in a working directory or here, and return what it wrote to stdout.

    Raises:
        CodecbookError: It could not be started, failed, or took too long; the message ends with its last lines.
    """
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise CodecbookError(
            f"{what} took longer than {timeout_s:g} s; try again, or look at the network."
        ) from None
    except OSError as error:
        raise CodecbookError(f"{what} could not be started: {error}; install the program again.") from error
    if done.returncode != 0:
        last = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()][-4:]
        raise CodecbookError(
            f"{what} failed with status {done.returncode}; its last lines: {' | '.join(last) or 'none'}. "
            "Mend what they say, and try again."
        )
    return done.stdout


def unpack_debian(arch: str, source: Source, folder: Path) -> int:
    """Fetch Python and numpy of a processor with all they need, and unpack them into a folder.

    Args:
        arch: Debian's name of the processor.
        source: The archive and the suite.
        folder: A folder that does not exist yet.

    Returns:
        The number of packages.

    Raises:
        CodecbookError: The archive lacks something, a signature or checksum is wrong, or a tool failed.
    """
    run_tool(
        [
            find_tool("debootstrap"), "--download-only", "--force-check-gpg", f"--arch={arch}", "--variant=minbase",
            f"--include={','.join(_PACKAGES)}", source.suite, str(folder), source.uri,
        ],
        f"debootstrap for {arch} from {source.uri} {source.suite}",
    )  # fmt: skip
    archives = folder / "var" / "cache" / "apt" / "archives"
    packages = sorted(archives.glob("*.deb"))
    for package in packages:
        run_tool([find_tool("dpkg-deb"), "-x", str(package), str(folder)], f"Unpacking {package.name}")
    for path in folder.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path)
    for name in _UNUSED:
        shutil.rmtree(folder / "usr" / "share" / name, ignore_errors=True)
    make_links_relative(folder)
    return len(packages)


def make_links_relative(folder: Path) -> None:
    """Turn absolute links within a root into relative ones.

    The folder is never the root of a process, so absolute links would lead to this machine's files.
    """
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent) / name for name in folders + files):
            target = str(path.readlink()) if path.is_symlink() else ""
            if target.startswith("/"):
                path.unlink()
                path.symlink_to(os.path.relpath(folder / target.lstrip("/"), path.parent))

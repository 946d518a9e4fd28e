"""Cases and results as files, for machines that cannot be reached from here. Normative for both formats.

A bundle (version 1) is a ZIP file with ``bundle.json`` and the files of a case, its baseline's answers included::

    {"format": "codecbook determinism bundle", "version": 1, "case": "<identity>", "files": {"<path>": "<sha256>"}}

``bundle.json`` has 1 MiB at most, all files together 1 GiB. A path has up to four parts of up to 80 letters, digits,
dots, dashes and underscores; none is ``.`` or ``..``, and no file is a folder of another.

A result is a JSON file: ``sha256`` is over the JSON of all other keys, sorted and without blanks::

    {
        "format": "codecbook determinism result",
        "version": 1,
        "case": "<identity>",
        "identities": {...},
        "codec": "...",
        "coders": [...],
        "results": [...],
        "sha256": "...",
    }
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import new_file, parse_json, sha256_of, write_file
from codecbook.probes.determinism.case import DESCRIPTION_NAME, Case, open_case
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.compare import CellResult
from codecbook.probes.determinism.matrix import result_of, tabulate

VERSION = 1
BUNDLE_FORMAT = "codecbook determinism bundle"
RESULT_FORMAT = "codecbook determinism result"
_MANIFEST = "bundle.json"
_LARGEST_BYTES = 1 << 30
_LARGEST_MANIFEST_BYTES = 1 << 20
_LARGEST_RESULT_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,80}(/[A-Za-z0-9_.-]{1,80}){0,3}")


def write_bundle(case: Case, path: str | Path, overwrite: bool = False) -> Path:
    """Write a case with its baseline's answers as one file.

    Raises:
        UnsupportedInput: The baseline was not run yet.
        CodecbookError: As `codecbook.files.new_file`.
    """
    answers = case.answers()
    names = [DESCRIPTION_NAME, *case.files]
    names += sorted(f"{answers.name}/{file.name}" for file in answers.iterdir())
    manifest = {
        "format": BUNDLE_FORMAT, "version": VERSION, "case": case.identity,
        "files": {name: sha256_of(case.folder / name) for name in names},
    }  # fmt: skip
    with new_file(path, overwrite) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        for name in names:
            archive.writestr(name, (case.folder / name).read_bytes())
    return Path(path)


def read_bundle(path: str | Path, folder: str | Path) -> Case:
    """Check a bundle and unpack it into a folder, a block at a time.

    No such file raises MissingInput; one that is truncated or altered, lists a path outside its folder, or unpacks to
    too much, CorruptInput; another version, or no bundle, UnsupportedInput.
    """
    folder = Path(folder)
    with _opened(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # of other bytes zipfile raises what its parts stumble over
            raise CorruptInput(f"{path} is truncated or no bundle ({error}); export it again.") from error
        infos = {info.filename: info for info in archive.infolist()}
        manifest = _manifest(archive, infos, path)
        files = manifest["files"]
        names = set(infos) - {_MANIFEST}
        if names != set(files) or len(archive.infolist()) != len(infos) or not _is_plain(names):
            raise CorruptInput(f"{path} does not hold the files that it lists; export it again.")
        if sum(info.file_size for info in infos.values()) > _LARGEST_BYTES:
            raise CorruptInput(f"{path} unpacks to more than 1 GiB; it is no bundle of this project.")
        for name, sha256 in files.items():
            with new_file(folder / name, overwrite=True) as partial, partial.open("wb") as unpacked:
                unpacked.writelines(_blocks(archive, infos[name], path))
            if sha256_of(folder / name) != sha256:
                raise CorruptInput(f"{name} in {path} is altered (SHA-256 differs); export the bundle again.")
    case = open_case(folder)
    if case.identity != manifest["case"]:
        raise CorruptInput(f"{path} names case {manifest['case'][:16]}, not {case.identity[:16]}; export it again.")
    return case


def _opened(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise MissingInput(f"There is no {path}; check the path, or fetch the file.") from error


def _manifest(archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], path: str | Path) -> dict[str, Any]:
    """Return the content of a bundle's ``bundle.json``, its kinds checked."""
    info = infos.get(_MANIFEST)
    if info is None or info.file_size > _LARGEST_MANIFEST_BYTES:
        found = "no" if info is None else f"{info.file_size} bytes of"
        raise CorruptInput(f"{path} holds {found} {_MANIFEST}, which no bundle does; export it again.")
    manifest = parse_json(b"".join(_blocks(archive, info, path)), dict, f"{_MANIFEST} in {path}", "export it again")
    _check_format(manifest, BUNDLE_FORMAT, path)
    files = manifest.get("files")
    are_hashes = isinstance(files, dict) and all(isinstance(sha256, str) for sha256 in files.values())
    if not are_hashes or not isinstance(manifest.get("case"), str):
        raise CorruptInput(f"{_MANIFEST} in {path} does not list files and their case; export it again.")
    return manifest


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str | Path) -> Iterator[bytes]:
    """Yield the content of a file of a bundle, which is no longer than the bundle says."""
    try:
        with archive.open(info) as member:
            while block := member.read(_BLOCK_BYTES):
                yield block
    except Exception as error:  # as in `read_bundle`: unknown methods, passwords, wrong places and sums
        raise CorruptInput(f"{info.filename!r} in {path} cannot be unpacked ({error}); export it again.") from error


def _is_plain(names: set[str]) -> bool:
    """Say whether names are relative paths that any system takes, none of them a folder of another."""
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return not names & folders and all(
        _PLAIN_NAME.fullmatch(name) and not set(name.split("/")) & {".", ".."} for name in names
    )


def write_result(case: Case, results: Sequence[CellResult], path: str | Path, overwrite: bool = False) -> Path:
    """Write what cells found on this machine, by way of `codecbook.files.write_file`."""
    content = {
        "format": RESULT_FORMAT, "version": VERSION, "case": case.identity, "identities": case.identities,
        "codec": case.codec, "coders": list(case.coders),
        "results": [
            {"cell": part.pop("cell"), "status": part["status"], "reason": part["reason"],
             "seconds": part.pop("seconds"), "content": part} for part in map(asdict, results)
        ],
    }  # fmt: skip
    return write_file(path, json.dumps({**content, "sha256": digest(content)}) + "\n", overwrite)


def read_result(path: str | Path, case: Case | None = None) -> tuple[dict[str, Any], list[CellResult]]:
    """Return what `write_result` wrote on another machine: the whole content, and the results, which must be of `case`.

    No such file raises MissingInput, a truncated or altered one CorruptInput, another version or results of other
    weights or tokens UnsupportedInput.
    """
    with _opened(path) as file:
        data = file.read(_LARGEST_RESULT_BYTES + 1)
    # of a machine that computes what is no number, that is the result
    content = parse_json(data, dict, str(path), "fetch it again", _LARGEST_RESULT_BYTES, finite=False)
    _check_format(content, RESULT_FORMAT, path)
    if digest({key: value for key, value in content.items() if key != "sha256"}) != content.get("sha256"):
        raise CorruptInput(f"{path} is altered (its SHA-256 differs); fetch it again, or run the bundle again.")
    if case is not None and content.get("case") != case.identity:
        raise UnsupportedInput(
            f"{path} holds results of the case {str(content.get('case'))[:16]}... (weights "
            f"{content.get('identities')}), not of {case.identity[:16]}... ({case.identities}); run the present bundle "
            "there."
        )
    try:
        results = [
            result_of(Cell(**part["cell"]), str(part["status"]), str(part["reason"]), dict(part["content"]),
                      float(part["seconds"]))
            for part in content["results"]
        ]  # fmt: skip
        tabulate(results, [str(name) for name in content["coders"]])  # needs all that results must hold
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CorruptInput(f"{path} holds no results ({error!r}); run the bundle again.") from error
    return content, results


def _check_format(content: dict[str, Any], name: str, path: str | Path) -> None:
    if content.get("format") != name:
        raise UnsupportedInput(f"{path} is no {name!r}; give a file that this command wrote.")
    if content.get("version") != VERSION:
        raise UnsupportedInput(f"{path} has version {content.get('version')!r}, this reads {VERSION}; export it again.")


def digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a result's content, hex."""
    as_read = json.loads(json.dumps(content))  # where segments are text: as integers they would sort otherwise
    return hashlib.sha256(json.dumps(as_read, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""Cases and results as files, for machines that cannot be reached from here. Normative for both formats.

A bundle (version 1) is a ZIP file with ``bundle.json`` and the files of a case, its baseline's answers included::

    {
        "format": "codecbook determinism bundle",
        "version": 1,
        "case": "<identity>",
        "files": {"<path>": "<sha256>"},
    }

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
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import new_file, write_file
from codecbook.probes.determinism.case import DESCRIPTION_NAME, Case, open_case
from codecbook.probes.determinism.cells import Cell
from codecbook.probes.determinism.matrix import CellResult

VERSION = 1
BUNDLE_FORMAT = "codecbook determinism bundle"
RESULT_FORMAT = "codecbook determinism result"
_MANIFEST = "bundle.json"
_LARGEST_BYTES = 1 << 30


def write_bundle(case: Case, path: str | Path, overwrite: bool = False) -> Path:
    """Write a case with its baseline's answers as one file.

    Raises:
        UnsupportedInput: The baseline was not run yet.
        CodecbookError: The file exists and `overwrite` is False.
    """
    if not case.baseline.is_dir():
        raise UnsupportedInput(
            f"{case.folder} has no answers of a baseline; run its first cell with run_matrix."
        )
    names = [DESCRIPTION_NAME, *case.files]
    names += sorted(f"{case.baseline.name}/{file.name}" for file in case.baseline.iterdir())
    contents = {name: (case.folder / name).read_bytes() for name in names}
    manifest = {
        "format": BUNDLE_FORMAT, "version": VERSION, "case": case.identity,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }  # fmt: skip
    with new_file(path, overwrite) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=2))
        for name, data in contents.items():
            archive.writestr(name, data)
    return Path(path)


def read_bundle(path: str | Path, folder: str | Path) -> Case:
    """Check a bundle and unpack it.

    Args:
        path: What `write_bundle` wrote.
        folder: Where to; made.

    Raises:
        CorruptInput: The file is truncated or altered, or lists a path outside its folder.
        UnsupportedInput: Another version, or no bundle.
    """
    folder = Path(folder)
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(_MANIFEST))
            _check_format(manifest, BUNDLE_FORMAT, path)
            names = set(archive.namelist()) - {_MANIFEST}
            if names != set(manifest["files"]) or any(_leaves(name) for name in names):
                raise CorruptInput(f"{path} does not hold the files that it lists; export it again.")
            if sum(info.file_size for info in archive.infolist()) > _LARGEST_BYTES:
                raise CorruptInput(f"{path} unpacks to more than 1 GiB; it is no bundle of this project.")
            for name, sha256 in manifest["files"].items():
                data = archive.read(name)
                if hashlib.sha256(data).hexdigest() != sha256:
                    raise CorruptInput(
                        f"{name} in {path} is altered (SHA-256 differs); export the bundle again."
                    )
                write_file(folder / name, data, overwrite=True)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        json.JSONDecodeError,
        UnicodeDecodeError,
    ) as error:
        raise CorruptInput(f"{path} is truncated or no bundle ({error}); export it again.") from error
    case = open_case(folder)
    if case.identity != manifest["case"]:
        raise CorruptInput(
            f"{path} names the case {manifest['case'][:16]}..., and holds {case.identity[:16]}..."
        )
    return case


def write_result(
    case: Case, results: Sequence[CellResult], path: str | Path, overwrite: bool = False
) -> Path:
    """Write what cells found on this machine.

    Raises:
        CodecbookError: The file exists and `overwrite` is False.
    """
    content = {
        "format": RESULT_FORMAT, "version": VERSION, "case": case.identity, "identities": case.identities,
        "codec": case.codec, "coders": list(case.coders),
        "results": [
            {"cell": r.cell.arguments(), "status": r.status, "reason": r.reason, "content": r.content,
             "seconds": r.seconds} for r in results
        ],
    }  # fmt: skip
    return write_file(path, json.dumps({**content, "sha256": _digest(content)}) + "\n", overwrite)


def read_result(path: str | Path, case: Case | None = None) -> tuple[dict[str, Any], list[CellResult]]:
    """Read what another machine found.

    Args:
        path: What `write_result` wrote there.
        case: What it must have computed; None takes any.

    Returns:
        The whole content, and the results.

    Raises:
        CorruptInput: The file is truncated or altered.
        UnsupportedInput: Another version, or results of other weights or tokens.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptInput(f"{path} is truncated or no result ({error}); fetch it again.") from error
    _check_format(content, RESULT_FORMAT, path)
    if _digest({key: value for key, value in content.items() if key != "sha256"}) != content.get("sha256"):
        raise CorruptInput(
            f"{path} is altered (its SHA-256 differs); fetch it again, or run the bundle again."
        )
    if case is not None and content["case"] != case.identity:
        raise UnsupportedInput(
            f"{path} holds results of the case {content['case'][:16]}... (weights {content['identities']}), not of "
            f"{case.identity[:16]}... ({case.identities}); run the present bundle there."
        )
    results = [
        CellResult(Cell(**part["cell"]), part["status"], part["reason"], part["content"], part["seconds"])
        for part in content["results"]
    ]
    return content, results


def _check_format(content: Any, name: str, path: str | Path) -> None:
    if not isinstance(content, dict) or content.get("format") != name:
        raise UnsupportedInput(f"{path} is no {name!r}; give a file that this command wrote.")
    if content.get("version") != VERSION:
        raise UnsupportedInput(
            f"{path} has version {content.get('version')!r}, this program reads {VERSION}; export it again."
        )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _leaves(name: str) -> bool:
    parts = Path(name).parts
    return Path(name).is_absolute() or ".." in parts or "\\" in name

"""Transcripts of recordings whose tokens are kept: one small JSON file, keyed as the token files are, by clip name.

    python -m codecbook.tokens.transcripts FOLDER --tokens data/tokens/units_25hz.parquet --out transcripts.json \
        --source "CMU Arctic prompts read by Kathleen" --licence CC0-1.0

looks below FOLDER for what is said in each clip of the token file: ``NAME.txt`` beside a recording, or a line of a
``*.trans.txt`` as LibriSpeech has them (``103-1240-0000 CHAPTER ONE ...``). Clips without either are left out.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from codecbook.command_line import ArgumentParser, exit_status
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import read_json, write_file
from codecbook.tokens.parquet import iterate_tokens

_FORMAT_KEY, _FORMAT = "codecbook_transcripts", 1


def read_transcripts(path: str | Path) -> dict[str, str]:
    """Return what is said in each clip, by clip name."""
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"There is no {path}; check the path, or make it (python -m codecbook.tokens.transcripts).")
    try:
        content = read_json(path, dict, "restore it")
        if content[_FORMAT_KEY] != _FORMAT:
            raise ValueError(f"its format is {content[_FORMAT_KEY]!r}, not {_FORMAT}")
        texts = content["texts"]
        if not all(isinstance(text, str) and text for text in texts.values()):
            raise ValueError("a clip has no text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptInput(f"{path} is no file of transcripts ({error!r}); restore it, or make it again.") from error
    return dict(texts)


def write_transcripts(
    path: str | Path, texts: Mapping[str, str], source: str, licence: str, overwrite: bool = False
) -> Path:
    """Write what is said, sorted by clip name, with where the texts are from and their licence."""
    empty = sorted(name for name, text in texts.items() if not text)
    if empty or not texts:
        raise UnsupportedInput(f"{len(empty)} of {len(texts)} transcripts are empty {empty[:3]}; leave them out.")
    content = {_FORMAT_KEY: _FORMAT, "source": source, "licence": licence, "texts": dict(sorted(texts.items()))}
    return write_file(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n", overwrite)


def find_transcripts(folder: str | Path, names: Iterable[str]) -> dict[str, str]:
    """Look below a folder for what is said in clips, and return what is found, by clip name.

    A clip ``corpus/a0001`` finds ``.../corpus/a0001.txt``, else the one file ``a0001.txt`` there is, else the line
    ``a0001 ...`` of a ``*.trans.txt``. White space at both ends is dropped, and empty texts are none. No such folder
    raises MissingInput, different texts that fit one clip UnsupportedInput, a file that is not UTF-8 CorruptInput.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingInput(f"There is no folder {folder}; give the one that the recordings lie in.")
    by_stem: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(folder.rglob("*.txt")):
        place = path.relative_to(folder).with_suffix("").as_posix()
        if path.name.endswith(".trans.txt"):
            lines = (line.partition(" ") for line in _read(path).splitlines())
            found = [(name, text) for name, _, text in lines]
        else:
            found = [(place, _read(path))]
        for name, text in found:
            if text.strip():
                by_stem.setdefault(PurePosixPath(name).name, []).append((name, text.strip()))
    texts = {name: _text_of(name, by_stem.get(PurePosixPath(name).name, [])) for name in names}
    return {name: text for name, text in texts.items() if text}


def _text_of(name: str, candidates: list[tuple[str, str]]) -> str:
    nearest = [text for place, text in candidates if f"/{place}".endswith(f"/{name}")]
    fitting = set(nearest or [text for _, text in candidates])
    if len(fitting) > 1:
        raise UnsupportedInput(f"{len(fitting)} texts fit the clip {name!r}; give a folder with one file of that name.")
    return fitting.pop() if fitting else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptInput(f"{path} is not UTF-8 ({error}); convert it.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of this module's docstring and return its exit status."""
    parser = ArgumentParser(
        prog="python -m codecbook.tokens.transcripts", description="Gather the transcripts of a token file's clips."
    )
    parser.add_argument("folder", type=Path, help="where the recordings and their texts lie")
    parser.add_argument("--tokens", type=Path, required=True, help="Parquet file of tokens that names the clips")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--source", required=True, help="where the texts are from")
    parser.add_argument("--licence", required=True, help="of the texts")
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse_args(arguments)

    def gather() -> int:
        names = [name for name, _ in iterate_tokens(options.tokens)]
        texts = find_transcripts(options.folder, names)
        write_transcripts(options.out, texts, options.source, options.licence, options.overwrite)
        print(f"{options.out}: {len(texts)} of {len(names)} clips, {sum(map(len, texts.values()))} characters")
        return 0

    return exit_status(gather, "nothing was written", options)


if __name__ == "__main__":
    sys.exit(main())

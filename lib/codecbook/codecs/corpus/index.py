"""The index of token corpora: which file holds which codec's tokens, and which clips are held out.

A folder of corpora (``data/tokens`` is one) holds::

    sources.json       where recordings are from: title, licence, credit, speakers, what is held out   (written by hand)
    clips.csv          clip, source, domain, speaker, split ("train" or "held_out"), duration_s
    index.json         per codec: file, SHA-256, the codec's weights, codebooks, clips, tokens
    <codec>.parquet    tokens, see `codecbook.tokens.parquet`

All but the first are written by ``python -m codecbook.codecs.corpus``.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from codecbook.errors import CorruptInput, MissingWeights, UnsupportedInput
from codecbook.files import read_json, sha256_of, write_file
from codecbook.paths import data_dir

FORMAT = 1
INDEX_NAME, CLIPS_NAME, SOURCES_NAME = "index.json", "clips.csv", "sources.json"
SPLITS = ("train", "held_out")


@dataclass(frozen=True)
class Source:
    """Recordings of one origin."""

    name: str  # the names of its clips begin with it
    title: str
    licence: str
    credit: str  # whom the licence names
    domain: str  # "speech" or "music"
    # regular expression for `codecbook.codecs.training.data.speaker_of`, empty where file names tell no speakers; no
    # speaker is on both sides of the split
    speaker: str = ""
    voice: str = ""  # the only speaker of a source that is split by clip
    made_by: str = ""  # how the recordings were made, in Markdown, where they were
    # for `codecbook.codecs.training.data.split_files`; what a corpus has stays where it is
    hold_out_every: int = 10
    hold_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipRow:
    """What ``clips.csv`` says of a clip."""

    clip: str  # name, as in the Parquet files
    source: str  # name of its `Source`
    domain: str  # of its source
    speaker: str  # empty where unknown
    split: str  # "train" or "held_out"
    duration_s: float


@dataclass(frozen=True)
class CorpusEntry:
    """What ``index.json`` says of one codec's tokens."""

    file: str  # name of the Parquet file
    sha256: str  # of the file, hex
    num_bytes: int  # of the file
    codec_weights: str  # what made the tokens, as `codecbook.codecs.Weights` prints it
    codec_weights_sha256: str  # hex
    num_codebooks: int  # leading codebooks that were kept
    clips: int
    duration_s: float  # of the audio
    tokens: int  # codes in all
    raw_bits: float  # what they take at log2 V bits each


@dataclass(frozen=True)
class TokenIndex:
    """The content of a folder of token corpora."""

    folder: Path
    corpora: Mapping[str, CorpusEntry]  # by codec
    clips: Mapping[str, ClipRow]  # by name

    def entry(self, codec: str) -> CorpusEntry:
        """Return a codec's entry; `MissingWeights` if there are no tokens of it."""
        if codec not in self.corpora:
            raise MissingWeights(f"{self.folder} holds no tokens of {codec!r}; choose of {', '.join(self.corpora)}.")
        return self.corpora[codec]

    def path(self, codec: str) -> Path:
        """Return the Parquet file of a codec; `CorruptInput` if it was altered since the index was written."""
        entry = self.entry(codec)
        path = self.folder / entry.file
        if not path.is_file():
            raise MissingWeights(f"{path} is not there; make it with python -m codecbook.codecs.corpus.")
        if sha256_of(path) != entry.sha256:
            raise CorruptInput(f"{path} is not the file that {INDEX_NAME} describes; make both again.")
        return path


def read_sources(path: str | Path) -> dict[str, Source]:
    """Read ``sources.json``."""
    try:
        return {
            name: Source(name, **{**about, "hold_out": tuple(about.get("hold_out", ()))})
            for name, about in _read_json(Path(path)).items()
        }
    except (TypeError, AttributeError) as error:
        raise CorruptInput(f"{path} does not describe sources ({error}); correct it.") from error


def read_index(folder: str | Path | None = None) -> TokenIndex:
    """Read the index of a folder of corpora; None takes the bundled ones, ``data/tokens``.

    Raises:
        MissingWeights: There is no index.
        CorruptInput: It is damaged.
    """
    folder = data_dir() / "tokens" if folder is None else Path(folder)
    content = _read_json(folder / INDEX_NAME)
    if content.get("format", FORMAT) != FORMAT:
        raise UnsupportedInput(f"{folder / INDEX_NAME} has format {content['format']}, not {FORMAT}; update codecbook.")
    try:
        corpora = {name: CorpusEntry(**entry) for name, entry in content["corpora"].items()}
        table = pd.read_csv(folder / CLIPS_NAME, dtype=str, keep_default_na=False).astype({"duration_s": float})
        rows = [ClipRow(**row) for row in table.to_dict("records")]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise CorruptInput(f"The index in {folder} is damaged ({error!r}); make it again.") from error
    return TokenIndex(folder, corpora, {row.clip: row for row in rows})


def write_index(folder: Path, corpora: Mapping[str, CorpusEntry], clips: Iterable[ClipRow]) -> None:
    """Write ``index.json`` and ``clips.csv``."""
    entries = {name: dataclasses.asdict(entry) for name, entry in corpora.items()}
    content = json.dumps({"format": FORMAT, "corpora": entries}, indent=2) + "\n"
    write_file(folder / INDEX_NAME, content, overwrite=True)
    table = pd.DataFrame(map(dataclasses.asdict, clips), columns=[field.name for field in dataclasses.fields(ClipRow)])
    write_file(folder / CLIPS_NAME, table.to_csv(index=False, float_format="%.4f"), overwrite=True)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingWeights(f"There is no {path}; check the path, or make it.")
    return read_json(path, dict, "correct it, or make it again")

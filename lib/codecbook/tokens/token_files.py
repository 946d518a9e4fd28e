"""Token files with a companion that says how they were made.

NPQ keeps codes and little else, so beside ``song.npq`` lies ``song.npq.json``: codec, weights, settings, the
recording's size and the token file's SHA-256. An export is resumed by it, and decoding needs no options.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput
from codecbook.files import new_file, sha256_of
from codecbook.paths import path_as_text
from codecbook.tokens.npq import inspect_npq, read_npq, write_npq
from codecbook.tokens.parquet import read_tokens, write_tokens
from codecbook.tokens.tokens import Tokens

FORMATS = ("npq", "parquet")
_SCHEMA = 1
# what NPQ leaves out of Tokens
_TOKEN_FIELDS = (
    "codec", "weights", "sample_rate_hz", "channels", "num_samples", "bandwidth_kbps", "segment_frames", "scales",
)  # fmt: skip


@dataclass(frozen=True)
class Companion:
    """What the JSON file beside a token file says."""

    settings: dict[str, Any]  # how the tokens were made; equal settings make equal tokens
    tokens: dict[str, Any]  # fields of `Tokens` that the token file itself may not keep
    report: dict[str, Any]  # the export's, on this file
    output_sha256: str  # of the token file, hex

    @property
    def weights_sha256(self) -> str:
        """Of the weights that made the tokens; empty where it was not kept."""
        return str(self.settings.get("weights_sha256", ""))


def companion_path(path: Path) -> Path:
    """Return where the companion of a token file lies."""
    return path.with_name(f"{path.name}.json")


def write_with_companion(path: Path, tokens: Tokens, settings: dict[str, Any], report: dict[str, Any]) -> Companion:
    """Write tokens as NPQ or Parquet by the path's suffix, and the companion, which is returned; both or neither.

    Raises UnsupportedInput: another suffix, or tokens that the format cannot hold.
    """
    _refuse_suffix(path)
    # both are written before either gets its name
    with new_file(path, overwrite=True) as partial, new_file(companion_path(path), overwrite=True) as beside:
        if path.suffix == ".npq":
            write_npq(partial, tokens)
        else:
            write_tokens(partial, {path_as_text(path.stem): tokens})
        companion = Companion(
            settings=settings,
            tokens={name: getattr(tokens, name) for name in _TOKEN_FIELDS},
            report={**report, "file_bytes": partial.stat().st_size, "header_bytes": header_bytes(partial, path.suffix)},
            output_sha256=sha256_of(partial),
        )
        beside.write_text(
            json.dumps({"codecbook_companion": _SCHEMA, **asdict(companion)}, indent=2) + "\n", encoding="utf-8"
        )
    return companion


def _refuse_suffix(path: Path) -> None:
    if path.suffix not in (".npq", ".parquet"):
        raise UnsupportedInput(f"{path.name} is no token file; its name must end in .npq or .parquet.")


def read_companion(path: Path) -> Companion | None:
    """Return the companion of a token file, None where there is none, or raise CorruptInput where it is damaged."""
    file = companion_path(path)
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("codecbook_companion") != _SCHEMA:
            raise KeyError("codecbook_companion")
        companion = Companion(**content)
        if set(companion.tokens) != set(_TOKEN_FIELDS):
            raise KeyError("tokens")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptInput(f"{file} is damaged ({error!r}); remove it, or export the recording again.") from error
    return companion


def is_complete(path: Path, settings: dict[str, Any]) -> Companion | None:
    """Return the companion where a token file is whole and was made with just these settings, else None."""
    if not path.is_file():
        return None
    try:
        companion = read_companion(path)
    except CorruptInput:
        return None  # export it again: that is what the message would advise
    # settings have gone through JSON, which turns tuples into lists
    if companion is None or companion.settings != json.loads(json.dumps(settings)):
        return None
    return companion if sha256_of(path) == companion.output_sha256 else None


def read_token_file(path: str | Path, clip: str | None = None) -> Tokens:
    """Read the tokens of a file of one clip, or of the `clip` of a Parquet file, with what the companion adds.

    No such file raises MissingInput, a damaged one or one altered since its companion was written CorruptInput; another
    suffix, several clips and none named, or a clip named where there is one UnsupportedInput.
    """
    path = Path(path)
    _refuse_suffix(path)
    if path.suffix == ".parquet":
        clips = read_tokens(path)
        if clip is None and len(clips) == 1:
            return next(iter(clips.values()))
        if clip not in clips:
            raise UnsupportedInput(f"{path} holds the clips {', '.join(clips)}; name one of them, not {clip!r}.")
        return clips[clip]
    if clip is not None:
        raise UnsupportedInput(f"clip={clip!r} chooses from a Parquet file, and {path.name} is one clip; leave it out.")
    tokens = read_npq(path)
    companion = read_companion(path)
    if companion is None:
        return tokens
    if sha256_of(path) != companion.output_sha256:
        raise CorruptInput(f"{path} was altered since {companion_path(path).name} was written; export it again.")
    try:
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in companion.tokens.items()}
        return replace(tokens, **fields, weights_sha256=companion.weights_sha256)
    except (CodecbookError, TypeError) as error:
        raise CorruptInput(f"{companion_path(path)} does not fit its file ({error}); export it again.") from error


def header_bytes(path: Path, suffix: str | None = None) -> int:
    """Return how many bytes of a token file describe it: NPQ's header, or Parquet's footer and magic."""
    if (suffix or path.suffix) == ".npq":
        return inspect_npq(path).header_bytes
    import pyarrow.parquet as pq

    # "PAR1" at both ends and the footer's length
    return pq.read_metadata(path).serialized_size + 12

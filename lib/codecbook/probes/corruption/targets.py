"""The formats that are damaged: one clip in each of them, where their parts lie, and how each is read again."""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn

from codecbook.audio import Clip
from codecbook.coding.ecdc import outline_ecdc, read_ecdc_codes, write_ecdc_codes
from codecbook.coding.ecdc.lm import PackageStepper, decode_steps
from codecbook.coding.stream import encode_tokens
from codecbook.coding.stream.reader import StreamReader, inspect
from codecbook.errors import CodecbookError
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens import Tokens
from codecbook.tokens.bits import pack_bits, unpack_bits
from codecbook.tokens.npq import inspect_npq, read_npq, write_npq
from codecbook.tokens.parquet import read_tokens, write_tokens

Parts = dict[str, tuple[range, ...]]
TOKEN_TARGETS = (
    "raw codes", "npq", "parquet", "ecdc raw", "ecdc lm", "ecdc lm checked", "ecdc acv=4", "cbs raw", "cbs exact",
)  # fmt: skip
"""Formats of tokens. ``"ecdc lm"`` is read as package ``encodec`` does, which checks nothing."""
AUDIO_TARGETS = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}
"""What people know, of the recording itself, by libsndfile's names."""
_PACKETS = 16  # into which a file without chunks is cut, to lose one


@dataclass(frozen=True, eq=False)
class Read:
    """What a reader makes of a file."""

    rows: np.ndarray | None = None  # int64 [T, K], of a format of tokens
    clip: Clip | None = None  # of one of audio
    lost: np.ndarray | None = None  # bool [T], frames that are reported as lost
    refused: str = ""  # why nothing was read


@dataclass(frozen=True, eq=False)
class Target:
    """A clip in one format."""

    name: str
    data: bytes
    parts: Parts  # by name: "header", "length", "checksum", "body", as far as the format has them
    chunks: tuple[range, ...]  # bytes that can be lost together
    decode: Callable[[bytes], Read]

    def read(self, data: bytes) -> Read:
        """Read a damaged copy; what a reader of this project, or libsndfile, refuses is refused."""
        try:
            return self.decode(data)
        except (CodecbookError, soundfile.LibsndfileError) as error:
            return Read(refused=str(error))


class TableLM(nn.Module):
    """A language model of tables, called as those of ``encodec``: a code's chances depend on the one before it.

    ``table`` is float32 ``[K, C, V]``: chances after code ``c`` stand in row ``(c + 1) mod C``, at first in row 0.
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.n_q, _, self.card = table.shape
        self.table = nn.Parameter(table, requires_grad=False)

    def forward(self, indices: torch.Tensor, states: Any = None, offset: Any = 0) -> tuple[torch.Tensor, Any, Any]:
        """Return probabilities ``[1, V, K, 1]`` of the codes after `indices`, ``[1, K, 1]``."""
        K = indices.shape[1]
        rows = self.table[torch.arange(K), indices[0, :, 0] % self.table.shape[1]]
        return rows.T[None, :, :, None], states, offset


def bigram_lm(codec: str = "encodec_24khz") -> TableLM:
    """Return a model of pairs of codes, counted in a codec's bundled training tokens.

    It stands in for upstream's model, whose weights are not bundled, before the same arithmetic coder.
    """
    rows = bundled_tokens(codec).train.rows()  # across the ends of clips as well, which are few
    K, V = rows.shape[1], 1024
    table = np.empty((K, V + 1, V), dtype=np.float32)
    for k, codes in enumerate(rows.T):
        single = np.bincount(codes, minlength=V) + 1.0
        single /= single.sum()
        pairs = np.bincount(codes[:-1] * V + codes[1:], minlength=V * V).reshape(V, V)
        # single codes weigh as much as 256 pairs: most pairs are never seen
        weights = pairs + 256 * single
        table[k] = np.vstack((single, weights / weights.sum(axis=1, keepdims=True)))
    return TableLM(torch.from_numpy(table))


def token_targets(tokens: Tokens, lm: nn.Module, exact: ExactLM, segment_s: float = 1.0) -> dict[str, Target]:
    """Return tokens of ``encodec_24khz_mini`` in each of `TOKEN_TARGETS`; `exact` is its exact language model."""
    rows, sizes = np.stack(tokens.codes, axis=1), tokens.codebook_sizes
    raw = pack_bits(rows, sizes)
    # nothing says how many there were; a player's frames do
    whole = len(raw)
    made = [
        Target("raw codes", raw, {"body": (range(whole),)}, packets(raw),
               lambda data: Read(unpack_bits(data[:whole], sizes, len(rows), damaged=True)))
    ]  # fmt: skip
    npq = _through_file("npq", lambda path: write_npq(path, tokens))
    head = _through_file("npq", lambda path: inspect_npq(path).header_bytes, npq)
    parts: Parts = {"header": (range(head),), "length": (range(16, 20),), "body": (range(head, len(npq)),)}
    made.append(Target("npq", npq, parts, packets(npq), _file_reader("npq", read_npq)))
    table = _through_file("parquet", lambda path: write_tokens(path, {"clip": tokens}))
    end = len(table) - 8
    foot = end - int.from_bytes(table[end:-4], "little")
    parts = {"header": (range(4),), "length": (range(end, end + 4),), "body": (range(4, foot),),
             "footer": (range(foot, end),)}  # fmt: skip
    made.append(
        Target("parquet", table, parts, packets(table), _file_reader("parquet", lambda p: read_tokens(p)["clip"]))
    )
    for name, model, acv in (("ecdc raw", None, 0), ("ecdc lm", lm, 1), ("ecdc acv=4", lm, 4)):
        data = write_ecdc_codes(tokens, model, acv)
        known = outline_ecdc(data)
        parts = {"header": (range(9, known.body),), "length": (range(5, 9),), "body": (range(known.body, len(data)),)}
        if known.chunks:
            parts["length"] = tuple(range(chunk.start - 8, chunk.start - 4) for chunk in known.chunks)
            parts["checksum"] = tuple(range(chunk.start - 4, chunk.start) for chunk in known.chunks)
            parts["body"] = tuple(range(chunk.start, chunk.end) for chunk in known.chunks)
        checked = _ecdc_reader(model)
        made.append(Target(name, data, parts, packets(data), _upstream_reader(lm) if acv == 1 else checked))
        if acv == 1:
            made.append(Target("ecdc lm checked", data, parts, packets(data), checked))
    for name, stream_lm in (("cbs raw", None), ("cbs exact", exact)):
        data = encode_tokens(tokens, stream_lm, lm_name="" if stream_lm is None else "lm", segment_s=segment_s)
        made.append(stream_target(name, data, stream_lm))
    return {target.name: target for target in made}


def stream_target(name: str, data: bytes, lm: ExactLM | None) -> Target:
    """Return a ``.cbs`` stream of any version; its segments are the chunks."""
    chunks = tuple(range(start, end) for start, end, _ in inspect(data).segments)
    parts = {
        "header": (range(chunks[0].start),),
        "segment header": tuple(range(chunk.start, chunk.start + 8) for chunk in chunks),
        "body": tuple(range((chunk.start + chunk.stop) // 2, chunk.stop) for chunk in chunks),
        "footer": (range(chunks[-1].stop, len(data)),),
    }
    return Target(name, data, parts, chunks, lambda damaged: _read_stream(damaged, lm))


def audio_targets(clip: Clip) -> dict[str, Target]:
    """Return a recording in each of `AUDIO_TARGETS`; what this libsndfile does not write is left out."""
    made = {}
    for name, (container, coding) in AUDIO_TARGETS.items():
        file = io.BytesIO()
        with contextlib.suppress(soundfile.LibsndfileError, ValueError):
            soundfile.write(file, clip.samples.T, clip.sample_rate_hz, format=container, subtype=coding)
            data = file.getvalue()
            parts = {"header": (range(64),), "body": (range(len(data) // 8, len(data)),)}
            made[name] = Target(name, data, parts, packets(data), _read_audio)
    return made


def packets(data: bytes) -> tuple[range, ...]:
    """Cut bytes into pieces of one size."""
    edges = [len(data) * i // _PACKETS for i in range(_PACKETS + 1)]
    return tuple(range(edges[i], edges[i + 1]) for i in range(_PACKETS))


def _ecdc_reader(lm: nn.Module | None) -> Callable[[bytes], Read]:
    def read(data: bytes) -> Read:
        found = read_ecdc_codes(data, lm)
        rows = np.stack(found.tokens.codes, axis=1)
        # of 24 kHz, a stream is one segment
        return Read(rows, lost=np.full(len(rows), bool(found.damage)))

    return read


def _upstream_reader(lm: nn.Module) -> Callable[[bytes], Read]:
    def read(data: bytes) -> Read:
        known = outline_ecdc(data)
        stepper = PackageStepper(lm)
        codes, _ = decode_steps(data[known.body :], stepper, known.header.num_codebooks, known.frames[0], verify=False)
        return Read(codes.T)

    return read


def _read_stream(data: bytes, lm: ExactLM | None) -> Read:
    with StreamReader(data, lm) as reader:
        found = reader.read()
        rows = reader.header.layout.to_rows(found.tokens)
    lost = np.zeros(len(rows), dtype=bool)
    for part in found.damage:
        lost[part.first_row - found.first_row : part.first_row - found.first_row + part.num_rows] = True
    return Read(rows, lost=lost)


def _file_reader(suffix: str, read: Callable[[Path], Tokens]) -> Callable[[bytes], Read]:
    return lambda data: Read(np.stack(_through_file(suffix, read, data).codes, axis=1))


def _read_audio(data: bytes) -> Read:
    with _quiet():
        samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return Read(clip=Clip(np.ascontiguousarray(samples.T), rate_hz))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries in C say about damage off the terminal."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _through_file(suffix: str, use: Callable[[Path], Any], data: bytes | None = None) -> Any:
    """Return what is made of a file with these bytes, or the bytes that are written into one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip.{suffix}"
        if data is not None:
            path.write_bytes(data)
            return use(path)
        use(path)
        return path.read_bytes()

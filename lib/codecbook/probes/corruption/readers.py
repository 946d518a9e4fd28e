"""What `fuzz` reads: for each reader good inputs, what alters them, and how to tell that wrong content came out."""

import contextlib
import functools
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from codecbook import audio
from codecbook.codecs import load_codec
from codecbook.codecs.build import random_seeded
from codecbook.codecs.loading import load_model, save_model
from codecbook.coding import decompress
from codecbook.coding.ecdc import read_ecdc_codes, write_ecdc_codes
from codecbook.coding.stream import encode_tokens, header, locate, reader, version1, version2
from codecbook.coding.stream.header import Parity
from codecbook.coding.stream.inner_code import add_inner_code
from codecbook.coding.stream.reader import StreamReader
from codecbook.coding.stream.segment import Segment
from codecbook.files import sha256_of, write_file
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import load_exact, save_exact
from codecbook.lm.model_files import load_lm, save_lm
from codecbook.lm.models import build_lm
from codecbook.probes.corruption import alter
from codecbook.probes.corruption.alter import alter_any
from codecbook.probes.corruption.fuzz import Reader
from codecbook.probes.corruption.targets import TableLM
from codecbook.probes.determinism.bundle import read_bundle, read_result, write_bundle, write_result
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.compare import CdfDifference, CellResult, CoderResult, LogitDifference
from codecbook.tokens import Tokens
from codecbook.tokens.npq import read_npq, write_npq
from codecbook.tokens.parquet import read_tokens, write_tokens
from codecbook.tokens.token_files import read_token_file, write_with_companion

_CHECKS = {"is_sealed": (header, locate), "crc16": (version2,), "check_of": (version1, version2),
           "crc32": (locate, reader)}  # fmt: skip


@contextlib.contextmanager
def any_checksum() -> Iterator[None]:
    """Let checksums of ``.cbs``, those of headers aside, pass meanwhile, as if they had been computed anew."""
    with contextlib.ExitStack() as stack:
        for name, modules in _CHECKS.items():
            for module in modules:  # each is given something that is equal to all
                stack.enter_context(mock.patch.object(module, name, return_value=mock.ANY))
        yield


@functools.cache
def _table_lm() -> TableLM:
    random = torch.Generator().manual_seed(0)
    return TableLM(torch.softmax(3 * torch.randn(16, 8, 1024, generator=random), dim=2))


def _random_tokens(count: int = 90, sizes: tuple[int, ...] = (16, 16, 16), **known: Any) -> Tokens:
    random = np.random.default_rng(count)
    about = {"sample_rate_hz": 1000, "channels": 1, "num_samples": 20 * count - 7, **known}
    return Tokens(tuple(random.integers(0, size, count) for size in sizes), sizes, (50.0,) * len(sizes), **about)


def _ecdc_tokens(name: str, num_codebooks: int) -> Tokens:
    known, random = load_codec(name).token_format(num_codebooks), np.random.default_rng(num_codebooks)
    if name == "encodec_24khz":
        return known.tokens([*random.integers(0, 1024, (num_codebooks, 40))], num_samples=320 * 40 - 9)
    return known.tokens([*random.integers(0, 1024, (num_codebooks, 173))], num_samples=47_520 + 23 * 320 - 5,
                        segment_frames=(150, 23), scales=(0.5, 0.25))  # fmt: skip


def _put(folder: Path, name: str, contents: list[bytes]) -> None:
    for i, content in enumerate(contents):
        write_file(folder / str(i) / name, content)


def _tiny_exact(folder: Path) -> None:
    torch.manual_seed(0)
    model = build_lm("rvq_transformer", {**_TRANSFORMER, "codebook_sizes": [16] * 3}).eval()
    save_exact(folder, export_exact(model, [np.random.default_rng(0).integers(0, 16, (20, 3))]))


_stream_model = functools.cache(load_exact)


def _make_streams(folder: Path) -> None:
    _tiny_exact(folder.parent / "stream_model")
    model = load_exact(folder.parent / "stream_model")
    rates = tuple(24_000 / 2048 * 2**level for level in range(3))
    random = np.random.default_rng(1)
    tree = Tokens(tuple(random.integers(0, 32, 30 << level) for level in range(3)), (32,) * 3, rates)
    segmented = _random_tokens(52, segment_frames=(10, 10, 10, 10, 9, 3), scales=(0.5,) * 6, channels=2)
    streams = [encode_tokens(tokens, segment_s=0.4) for tokens in (_random_tokens(), tree, segmented)]
    streams.append(encode_tokens(_random_tokens(60), model, lm_name="toy", segment_s=0.4))
    streams.append(encode_tokens(_random_tokens(), segment_s=0.2, parity=Parity(4, 1)))
    streams.append(add_inner_code(streams[0]))
    _put(folder, "input.cbs", streams)


def _read_stream(folder: Path) -> tuple[list[Segment], Tokens, bool]:
    """Return a stream's segments that decode, all of its tokens, and whether something is reported of them."""
    model = _stream_model(folder.parent / "stream_model")
    with StreamReader(folder / "input.cbs") as stream:
        stream.model = model if stream.header.coder == "exact" else None
        found = stream.read()
        segments = [part for part in stream.segments() if isinstance(part, Segment)]
    return segments, found.tokens, bool(found.damage)


def _stream_is_wrong(good: tuple[list[Segment], Tokens, bool], found: tuple[list[Segment], Tokens, bool]) -> bool:
    rows = np.concatenate([part.rows for part in good[0]])
    for part in found[0]:
        if not np.array_equal(part.rows, rows[part.first_row : part.first_row + part.num_rows]):
            return True
    return not found[2] and found[1] != good[1]


def _make_sounding_stream(folder: Path) -> None:
    tokens = _ecdc_tokens("encodec_24khz", 2)
    _put(folder, "input.cbs", [encode_tokens(tokens, segment_s=0.2)])


def _make_ecdc(folder: Path) -> None:
    lm = _table_lm()
    mono, stereo = _ecdc_tokens("encodec_24khz", 4), _ecdc_tokens("encodec_48khz", 2)
    made = [(mono, None, 0), (stereo, None, 0), (mono, lm, 1), (stereo, lm, 1), (mono, lm, 4), (stereo, lm, 4)]
    _put(folder, "input.ecdc", [write_ecdc_codes(*one) for one in made])


def _make_npq(folder: Path) -> None:
    for i, tokens in enumerate((_random_tokens(), _random_tokens(channels=2, mid_codebooks=2))):
        write_npq(folder / str(i) / "input.npq", tokens)
    payload = np.random.default_rng(0).integers(0, 16, (20, 2)).astype("<u2").tobytes()
    old = [struct.pack("<4siffiii", b"NPQ1", 2, 50.0, 64.0, 20, 16, 16)]
    old += [struct.pack("<4sifiii", b"NPQ1", 2, 50.0, 16, 16, 20)]
    for i, head in enumerate(old, 2):
        write_file(folder / str(i) / "input.npq", head + payload)


def _make_parquet(folder: Path) -> None:
    clips = {"a": _random_tokens(), "b": _random_tokens(20, segment_frames=(10, 10), scales=(1.0, 0.5))}
    write_tokens(folder / "0" / "input.parquet", clips)
    write_tokens(folder / "1" / "input.parquet", {"long": _random_tokens(3000, (1024,) * 4)})


_SEANET = {"hidden_dim": 8, "num_filters": 2}
_TRANSFORMER: dict[str, Any] = {
    "codebook_sizes": [5, 5], "dim": 8, "layers": 1, "heads": 2, "hidden": 8, "window_frames": 4, "head_dim": 4,
    "head_hidden": 4,
}  # fmt: skip
_LMS = {"rvq_transformer": _TRANSFORMER,
        "tiny_gpt": {"codebook_sizes": [5], "dim": 8, "layers": 1, "heads": 2, "hidden": 8, "context": 6}}  # fmt: skip
_CODECS: dict[str, dict[str, Any]] = {
    "encodec": {**_SEANET, "num_codebooks": 1, "codebook_size": 16, "bandwidth_kbps": 0.3},
    "fsq": {**_SEANET, "levels": [4, 4]},
    "snac": {"codebook_size": 16, "codebook_dim": 4, "encoder_dim": 2, "decoder_dim": 16},
}


def _make_lms(folder: Path) -> None:
    for i, (architecture, arguments) in enumerate(_LMS.items()):
        torch.manual_seed(0)
        save_lm(folder / str(i), build_lm(architecture, arguments), {"order": "parallel"})


def _make_codecs(folder: Path) -> None:
    for i, (architecture, arguments) in enumerate(_CODECS.items()):
        save_model(folder / str(i), random_seeded(architecture, arguments, 0), architecture, arguments, {})


def _case(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    np.save(folder / "codes.npy", np.zeros((1, 2, 2), dtype=np.int64))
    case = Case(folder, "none", 0, ("exact",), {"lm": "ab"}, {"codes.npy": sha256_of(folder / "codes.npy")})
    (folder / "case.json").write_text(json.dumps(case.description()))
    case.baseline.mkdir(exist_ok=True)
    (case.baseline / "cdf.npy").write_bytes(bytes(50))
    return case


def _make_result(folder: Path) -> None:
    part = CoderResult(
        "ran", bits=5.0, segments=1, logits=LogitDifference(4, 1, 0.5, 2.0, {0.5: 1}),
        cdf=CdfDifference(4, 1, 0, (0, 0, 0, 1), [0], [1], [0]), first_wrong_frames={0: 1},
    )  # fmt: skip
    found = CellResult(BASELINE, "ran", coders={"exact": part}, seconds=1.0)
    write_result(_case(folder.parent / "result_case"), [found], folder / "0" / "input.json")


def _make_audio(folder: Path) -> None:
    samples = np.sin(np.arange(4800) / 20)[:, None] * [0.5, 0.25]
    for suffix in ("wav", "flac", "mp3", "ogg"):
        (folder / suffix).mkdir()
        audio.save(audio.clip_from_array(samples.T.astype(np.float32), 48_000), folder / suffix / f"input.{suffix}")


READERS: dict[str, Reader] = {
    "cbs": Reader(_make_streams, _read_stream, alter.alter_stream, 30, True, _stream_is_wrong, any_checksum),
    "cbs_audio": Reader(_make_sounding_stream, lambda f: decompress(f / "input.cbs"), alter.alter_stream),
    "ecdc": Reader(_make_ecdc, lambda f: read_ecdc_codes((f / "input.ecdc").read_bytes(), _table_lm()),
                   alter.alter_ecdc, 4, False, lambda a, b: not b.damage and a.tokens != b.tokens),
    "npq": Reader(_make_npq, lambda f: read_npq(f / "input.npq"), alter_any, 12, is_wrong=lambda a, b: a != b),
    "npq_companion": Reader(
        lambda f: write_with_companion(f / "0" / "input.npq", _random_tokens(), {}, {}),
        lambda f: read_token_file(f / "input.npq"), alter_any, 4,
    ),
    "parquet": Reader(_make_parquet, lambda f: read_tokens(f / "input.parquet"), alter.alter_parquet, 25, True,
                      lambda a, b: a != b),
    "lm": Reader(_make_lms, load_lm, alter.alter_model, 4),
    "exact": Reader(lambda f: _tiny_exact(f / "0"), load_exact, alter.alter_model, 4),
    "codec": Reader(_make_codecs, load_model, alter.alter_model),
    "bundle": Reader(lambda f: write_bundle(_case(f.parent / "case"), f / "0" / "input.zip"),
                     lambda f: read_bundle(f / "input.zip", f.parent / "unpacked"), alter.alter_bundle, 6),
    "result": Reader(_make_result, lambda f: read_result(f / "input.json"), alter.alter_result, 6),
    "audio": Reader(_make_audio, lambda f: audio.load(next(iter(f.iterdir()))), alter_any, 6),
}  # fmt: skip
"""All readers of files from outside."""

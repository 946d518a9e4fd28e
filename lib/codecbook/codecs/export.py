"""Export recordings as tokens: many files, long files, interrupted and resumed.

Recordings are read and encoded in chunks where the codec can. Where it joins them by its state or by overlap, tokens do
not depend on the chunks, up to rounding in the last bits of a latent; so the beginning of every longer file is also
encoded in one pass, and the report states how many tokens around the first seam differ.

There is a report on each recording, and a summary of all in the output folder.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from codecbook.codecs.base import Codec
from codecbook.codecs.blocks import AudioBlocks
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput, require_one_of
from codecbook.files import check_folder, read_json, refuse_same_file, target_of, write_file
from codecbook.paths import path_as_text, path_from_text
from codecbook.recordings import Recording
from codecbook.tokens.token_files import FORMATS, companion_path, is_complete, read_companion, write_with_companion
from codecbook.tokens.tokens import Tokens

_JSON_NAME, _CSV_NAME = "export.json", "export.csv"
_MAX_BYTES = 1 << 30  # of hundreds of thousands of recordings


@dataclass(frozen=True)
class FileReport:
    """What became of one recording; a row of the summary."""

    source: str  # path of the recording, as `path_as_text` writes it
    status: str  # "exported", "skipped" (it was complete already) or "failed"
    error: str = ""  # why it failed
    output: str = ""  # path of the tokens, likewise; empty for a recording that failed
    codec: str = ""
    weights: str = ""  # where they are from
    weights_sha256: str = ""
    sample_rate_hz: int = 0  # of the coded audio
    channels: int = 0  # of the coded audio
    duration_s: float = 0.0  # of the recording
    frame_rates_hz: tuple[float, ...] = ()  # per codebook
    frames: tuple[int, ...] = ()  # codes per codebook
    header_bytes: int = 0  # of the token file, in which it describes itself
    file_bytes: int = 0  # of the token file
    source_bytes: int = 0  # of the recording's file
    pcm16_bytes: int = 0  # of the recording as 16-bit PCM, at its own rate and channels
    ratio_to_pcm16: float = 0.0  # `pcm16_bytes` over `file_bytes`
    ratio_to_source: float = 0.0  # `source_bytes` over `file_bytes`
    bitrate_kbps: float = 0.0  # of the token file over the duration
    encode_s: float = 0.0  # without reading and resampling
    seam_tokens_checked: int = 0  # tokens around the first seam that were compared with those of one pass
    seam_tokens_differing: int = 0
    name: str = ""  # path of the tokens below the output folder, of what failed as well


_COLUMNS = [field.name for field in dataclasses.fields(FileReport)]


def report_of(values: dict[str, Any], status: str) -> FileReport:
    """Make a report from a companion, with what follows from the size of the token file."""
    try:
        report = FileReport(**{**values, "status": status})
    except TypeError as error:
        raise CorruptInput(f"The report in a companion file is damaged ({error}); remove the file.") from error
    return dataclasses.replace(
        report,
        frame_rates_hz=tuple(report.frame_rates_hz),
        frames=tuple(report.frames),
        ratio_to_pcm16=report.pcm16_bytes / report.file_bytes,
        ratio_to_source=report.source_bytes / report.file_bytes,
        bitrate_kbps=report.file_bytes * 8 / report.duration_s / 1000,
    )


def write_summary(outdir: Path, reports: Iterable[FileReport]) -> None:
    """Write ``export.json`` and ``export.csv``, one entry per token file and per recording that failed.

    Entries of earlier exports stay, unless the new reports are on the same token file, or what they are about is gone.
    """
    rows = []
    for row in read_summary(outdir):
        about = path_from_text(row["source"]) if row["status"] == "failed" else outdir / row["name"]
        if about.is_file():
            rows.append(row)
    rows += [dataclasses.asdict(report) for report in reports]
    # by the token file, and what never got that far by its recording
    rows = list({row["name"] or row["source"]: row for row in rows}.values())
    write_file(outdir / _JSON_NAME, json.dumps(rows, indent=2) + "\n", overwrite=True)
    table = pd.DataFrame(rows, columns=_COLUMNS)
    for name in ("frame_rates_hz", "frames"):  # as "75;75", so that a spreadsheet shows them as text
        table[name] = [";".join(f"{x:g}" for x in values) for values in table[name]]
    write_file(outdir / _CSV_NAME, table.to_csv(index=False), overwrite=True)


def read_summary(outdir: Path) -> list[dict[str, Any]]:
    """Return the entries of the summary in a folder, none where there is none; refuse what is damaged.

    An ``export.csv`` that is no summary, and would be lost, is refused as well.
    """
    path = outdir / _JSON_NAME
    if not path.is_file():
        if (outdir / _CSV_NAME).exists():
            raise UnsupportedInput(f"{outdir / _CSV_NAME} has no {_JSON_NAME} beside it; choose another folder.")
        return []
    remedy = f"remove it and {_CSV_NAME}, or choose another folder"
    rows = read_json(path, list, remedy, max_bytes=_MAX_BYTES)
    for row in rows:
        is_row = isinstance(row, dict) and list(row) == _COLUMNS
        if not is_row or not all(isinstance(row[key], str) for key in ("source", "status", "name")):
            raise CorruptInput(f"{path} is no summary of an export; {remedy}.")
    return rows


# of a file that needs two chunks or more, the first two are run in one pass, and what lies half a chunk from the
# end of these is compared: that far from a cut, every network here has all that it looks ahead to
_CHECK_CHUNKS, _COMPARED_CHUNKS = 2.0, 1.5


def export(
    recordings: Iterable[Recording],
    codec: Codec,
    outdir: Path,
    *,
    file_format: str = "npq",
    bandwidth_kbps: float | None = None,
    num_codebooks: int | None = None,
    chunk_s: float | None = None,
    on_report: Callable[[FileReport], None] = lambda report: None,
    on_progress: Callable[[float], None] = lambda done_s: None,
) -> list[FileReport]:
    """Export recordings; one that fails is reported, and the others go on, until the file system takes no more.

    The summary ``export.json`` and ``export.csv`` in `outdir` is written at the end, also when the export is
    interrupted, and keeps what earlier exports said of other token files. Called again, it skips what is complete and
    was made with the same settings. Tokens of ``a.wav`` go to ``a.npq``, and to ``a.wav.npq`` where that name is taken
    (by ``a.mp3``, for one); they stay where they are when another recording is added.

    Recordings, of `find_recordings`, are brought to the codec's rate and channels; bandwidth, codebooks and chunks are
    as in `Codec.encode`. `on_report` is called after every file, `on_progress` now and then with the seconds of a
    recording that have been read.

    Raises:
        UnsupportedInput: Settings that hold for no recording, or an `outdir` that is none.
        CorruptInput: The summary of an earlier export is damaged.
        OSError: `outdir` is full or cannot be written to, which is checked before anything is encoded.
    """
    require_one_of("file_format", file_format, FORMATS)
    count, _ = codec.checked_settings(bandwidth_kbps, num_codebooks, chunk_s)
    if file_format == "npq" and len(set(codec.frame_rates_hz[:count])) > 1:
        raise UnsupportedInput(f"NPQ holds codebooks of one rate, and {codec.name} has several; choose parquet.")
    settings = {
        "codec": codec.name, "weights": str(codec.weights), "weights_sha256": codec.weights.sha256,
        "num_codebooks": count, "bandwidth_kbps": bandwidth_kbps, "chunk_s": chunk_s,
    }  # fmt: skip
    check_folder(outdir)
    read_summary(outdir)
    reports: list[FileReport] = []
    try:
        for recording in recordings:
            reports.append(_export_or_fail(recording, codec, outdir, file_format, settings, on_progress))
            on_report(reports[-1])
    except BaseException:
        with contextlib.suppress(OSError):  # on a full disk, which the first error has told
            write_summary(outdir, reports)
        raise
    write_summary(outdir, reports)
    return reports


def _export_or_fail(
    recording: Recording,
    codec: Codec,
    outdir: Path,
    file_format: str,
    settings: dict[str, Any],
    on_progress: Callable[[float], None],
) -> FileReport:
    """Export one recording; an `OSError` of writing passes, as it would come again with the next one."""
    source, name = path_as_text(recording.path), ""

    def failed(error: Exception) -> FileReport:
        reason = " ".join(str(error).split()) or repr(error)
        # of a path that is no UTF-8, the message may hold bytes that no file of text takes
        reason = reason.encode(errors="backslashreplace").decode()
        return FileReport(source, "failed", error=reason, name=name)

    try:
        name = f"{_free_name(recording, outdir, file_format)}.{file_format}"
        output = outdir / name
        for path in (output, companion_path(output)):
            target_of(path, overwrite=True)  # refuses what no file can replace
            refuse_same_file(recording.path, path)
        stat = recording.path.stat()
        settings = settings | {
            "source": source, "source_bytes": stat.st_size, "source_mtime_ns": stat.st_mtime_ns
        }  # fmt: skip
        where = {"name": name, "output": path_as_text(output)}
        if companion := is_complete(output, settings):
            return report_of(companion.report | where, "skipped")
        tokens, report = _encoded(recording.path, codec, settings, on_progress)
    except (CodecbookError, OSError, MemoryError, RuntimeError) as error:  # torch without memory: RuntimeError
        return failed(error)
    try:
        companion = write_with_companion(output, tokens, settings, dataclasses.asdict(report) | where)
    except CodecbookError as error:
        return failed(error)
    return report_of(companion.report, "exported")


def _free_name(recording: Recording, outdir: Path, file_format: str) -> str:
    """Return under which name a recording's tokens go, or are already; one that is another recording's is not taken."""
    suffix = path_as_text(recording.path.suffix)
    plain = recording.name.removesuffix(suffix)
    owners: dict[str, Path | None] = {}
    for name in (recording.name, plain, plain + suffix):
        owners[name] = owner = _recording_of(outdir / f"{name}.{file_format}")
        if owner and owner.samefile(recording.path):
            return name
    for name in (recording.name, plain + suffix):
        if owners[name] is None:
            return name
    raise UnsupportedInput(f"{plain}.{file_format} is of {path_as_text(owners[plain] or '')}; choose another folder.")


def _recording_of(output: Path) -> Path | None:
    """Return the recording that a token file was made of, where both are still there."""
    try:
        companion = read_companion(output)
    except CorruptInput:
        return None
    source = path_from_text(str(companion.settings.get("source", ""))) if companion else Path()
    return source if output.is_file() and source.is_file() else None


def _encoded(
    path: Path, codec: Codec, settings: dict[str, Any], on_progress: Callable[[float], None]
) -> tuple[Tokens, FileReport]:
    chunk_s = settings["chunk_s"] or codec.chunk_s
    blocks = AudioBlocks(path, codec.sample_rate_hz, codec.channels, bool(codec.exact_sha256))
    head: list[np.ndarray] = []
    read_s = 0.0

    def watched() -> Iterator[np.ndarray]:
        nonlocal read_s
        start_s, missing = time.perf_counter(), _head_samples(codec, chunk_s)
        for block in blocks:
            if missing > 0:
                head.append(block[:, :missing])
                missing -= block.shape[1]
            on_progress(blocks.source_duration_s)
            read_s += time.perf_counter() - start_s
            yield block
            start_s = time.perf_counter()
        read_s += time.perf_counter() - start_s

    start_s = time.perf_counter()
    tokens = codec.encode_blocks(watched(), num_codebooks=settings["num_codebooks"], chunk_s=settings["chunk_s"])
    encode_s = time.perf_counter() - start_s - read_s
    checked, differing = check_seams(codec, head, tokens, chunk_s)
    tokens = dataclasses.replace(
        tokens,
        bandwidth_kbps=settings["bandwidth_kbps"] or tokens.bandwidth_kbps,
        source_bitrate_kbps=settings["source_bytes"] * 8 / blocks.source_duration_s / 1000,
    )
    of_tokens = ("codec", "weights", "weights_sha256", "sample_rate_hz", "channels", "frame_rates_hz")
    report = FileReport(
        source=settings["source"], status="exported", duration_s=blocks.source_duration_s, encode_s=encode_s,
        frames=tuple(len(codes) for codes in tokens.codes), source_bytes=settings["source_bytes"],
        pcm16_bytes=2 * blocks.source_channels * blocks.source_samples, seam_tokens_checked=checked,
        seam_tokens_differing=differing, **{name: getattr(tokens, name) for name in of_tokens},
    )  # fmt: skip
    return tokens, report


def _head_samples(codec: Codec, chunk_s: float) -> int:
    """Return how long a recording's beginning is that is encoded in one pass as well; 0 for a codec without seams."""
    return round(_CHECK_CHUNKS * chunk_s * codec.sample_rate_hz) if codec.seams in ("state", "context") else 0


def check_seams(codec: Codec, head: Sequence[np.ndarray], tokens: Tokens, chunk_s: float) -> tuple[int, int]:
    """Return how many tokens around a clip's first seam were compared with those of one pass, and how many differ.

    `head` is the clip, or its first two chunks, in blocks; its tokens were made `chunk_s` at a time. Both are 0 where
    there is no seam, or where the codec's own segments are the chunks.
    """
    head_samples = _head_samples(codec, chunk_s)
    if not head_samples or sum(block.shape[1] for block in head) < head_samples:
        return 0, 0
    samples = np.concatenate(head, axis=1)[:, :head_samples]
    whole = codec.encode_blocks([samples], None, tokens.num_codebooks, _CHECK_CHUNKS * chunk_s)
    checked = differing = 0
    for made, expected, rate_hz in zip(tokens.codes, whole.codes, tokens.frame_rates_hz, strict=True):
        count = int(_COMPARED_CHUNKS * chunk_s * rate_hz)
        checked += count
        differing += int(np.count_nonzero(made[:count] != expected[:count]))
    return checked, differing

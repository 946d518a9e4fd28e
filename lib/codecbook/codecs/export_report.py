"""What became of recordings that were exported: a report on each, and the summary of all in the output folder."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import read_json, write_file
from codecbook.paths import path_from_text

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
            raise UnsupportedInput(
                f"{outdir / _CSV_NAME} is no summary, as no {_JSON_NAME} lies beside it; choose another folder."
            )
        return []
    remedy = f"remove it and {_CSV_NAME}, or choose another folder"
    rows = read_json(path, list, remedy, max_bytes=_MAX_BYTES)
    for row in rows:
        is_row = isinstance(row, dict) and list(row) == _COLUMNS
        if not is_row or not all(isinstance(row[key], str) for key in ("source", "status", "name")):
            raise CorruptInput(f"{path} is no summary of an export; {remedy}.")
    return rows

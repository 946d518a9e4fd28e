"""The jobs of the Snakefile beside this that take a shard: identify its recordings, or turn them into tokens."""

import argparse
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from codecbook.audio_files import AudioFile
from codecbook.errors import CodecbookError
from codecbook.files import write_file
from codecbook.paths import path_from_text

FOUND = ("name", "path", "num_bytes", "mtime_ns")  # columns of found/, of text
IDENTIFIED = ("name", "identity", "duration_s", "error")  # of identities/
TOKENIZED = ("name", "tokens", "encode_s", "error")  # of tokens/


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV, all of it as text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_table(path: Path, rows: list[tuple], columns: tuple[str, ...]) -> None:
    """Write a CSV."""
    write_file(path, pd.DataFrame(rows, columns=list(columns)).to_csv(index=False), overwrite=True)


def identify(options: argparse.Namespace) -> None:
    """Write what tells the audio of each recording from others, its duration, and why it cannot be read."""
    rows = []
    table = read_table(options.recordings)
    for name, path in zip(table["name"], table["path"], strict=True):
        try:
            rows.append((name, *identity_of(path_from_text(path)), ""))
        except (CodecbookError, OSError) as error:
            rows.append((name, "", 0.0, " ".join(str(error).split())))
            print(f"cannot be read: {error}", flush=True)
    write_table(options.identities, rows, IDENTIFIED)


def identity_of(path: Path) -> tuple[str, float]:
    """Return the SHA-256 of the decoded samples, whatever file they are in, and their duration in seconds."""
    digest, samples = hashlib.sha256(), 0
    with AudioFile(path) as file:
        digest.update(f"{file.sample_rate_hz} {file.channels} ".encode())
        for block in file.blocks():
            digest.update(block.astype("<f4", copy=False).tobytes())
            samples += len(block)
        if not samples:
            raise CodecbookError(f"{path} holds no samples; record or export it again.")
        return digest.hexdigest(), samples / file.sample_rate_hz


def tokenize(options: argparse.Namespace) -> None:
    """Encode the recordings of a shard one by one, and put the tokens into one file.

    A job that was killed goes on behind the last recording that was complete.
    """
    # torch, which identifying does without
    from codecbook.codecs.export import export
    from codecbook.codecs.registry import load_codec
    from codecbook.recordings import Recording
    from codecbook.tokens.parquet import write_tokens
    from codecbook.tokens.token_files import read_token_file

    table = read_table(options.recordings)
    recordings = [
        Recording(path_from_text(path), name) for name, path in zip(table["name"], table["path"], strict=True)
    ]
    codec = load_codec(options.codec, options.weights)
    reports = export(
        recordings, codec, options.work, file_format="parquet", num_codebooks=options.codebooks or None,
        on_report=lambda report: print(report.status, report.source, report.error, flush=True),
    )  # fmt: skip
    pairs = list(zip(recordings, reports, strict=True))
    done = ((r.name, read_token_file(options.work / report.name)) for r, report in pairs if report.status != "failed")
    write_tokens(options.tokens, done, overwrite=True)
    rows = [(r.name, sum(report.frames), report.encode_s, report.error) for r, report in pairs]
    write_table(options.report, rows, TOKENIZED)
    shutil.rmtree(options.work)


def main() -> None:
    """Run the job that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    jobs = parser.add_subparsers(required=True)

    def add(job: Callable[[argparse.Namespace], None], *files: str) -> argparse.ArgumentParser:
        added = jobs.add_parser(job.__name__)
        for name in files:
            added.add_argument(name, type=Path)
        added.set_defaults(job=job)
        return added

    add(identify, "recordings", "identities")
    encoding = add(tokenize, "recordings", "tokens", "report")
    encoding.add_argument("--codec", required=True)
    encoding.add_argument("--weights", default="bundled")
    encoding.add_argument("--codebooks", type=int, default=0, help="leading codebooks; 0 takes all")
    encoding.add_argument("--work", type=Path, required=True, help="folder for the tokens of single recordings")
    options = parser.parse_args()
    try:
        options.job(options)
    except (CodecbookError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

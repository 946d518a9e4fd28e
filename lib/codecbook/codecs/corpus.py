"""Command line: make a folder of token corpora, one small Parquet file per codec.

    python -m codecbook.codecs.corpus --out data/tokens librispeech=FOLDER kathleen=FOLDER music=FOLDER

Each ``NAME=FOLDER`` says where the recordings of a source lie that ``sources.json`` in the output folder describes.
Recordings are exported one by one into a work folder, and packed at the end; the same command goes on with an
interrupted run, and makes again what another codec or other weights have made. Errors are one line on stderr, and
exit status 2.
"""

import argparse
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from codecbook.codecs.base import Codec
from codecbook.codecs.corpus_index import (
    INDEX_NAME,
    SOURCES_NAME,
    ClipRow,
    CorpusEntry,
    Source,
    file_sha256,
    read_index,
    read_sources,
    write_index,
)
from codecbook.codecs.corpus_readme import readme
from codecbook.codecs.export import FileReport, export
from codecbook.codecs.recordings import Recording
from codecbook.codecs.registry import codec_names, load_codec
from codecbook.codecs.token_files import read_token_file
from codecbook.codecs.train_data import Folder, split_files
from codecbook.command_line import exit_status
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import write_file
from codecbook.tokens.parquet import iterate_tokens, write_tokens
from codecbook.tokens.tokens import Tokens


@dataclass(frozen=True)
class Plan:
    """What of a codec goes into its corpus.

    Attributes:
        num_codebooks: Leading codebooks; None for all.
        domains: Of the sources that are encoded; empty for all.
        skipped_sources: Names of sources that are left out.
    """

    num_codebooks: int | None = None
    domains: tuple[str, ...] = ()
    skipped_sources: tuple[str, ...] = ()


PLANS: dict[str, Plan] = {
    "encodec_24khz": Plan(num_codebooks=8),
    # twice the rate of the others, and made for music: the many speakers at 16 kHz would say nothing of it
    "encodec_48khz": Plan(skipped_sources=("librispeech",)),
    "snac_24khz": Plan(),
    "fsq_50hz": Plan(),
    "units_25hz": Plan(domains=("speech",)),
}
"""The corpora of ``data/tokens``."""


@dataclass(frozen=True)
class Member:
    """A recording of a corpus.

    Attributes:
        recording: Its file, and its name as a clip.
        source: Where it is from.
        speaker: Who speaks, empty where unknown.
        split: ``"train"`` or ``"held_out"``.
    """

    recording: Recording
    source: Source
    speaker: str
    split: str


def find_members(folders: Mapping[str, Path], sources: Mapping[str, Source]) -> list[Member]:
    """Find the recordings of sources, and say who speaks and which are held out.

    Raises:
        UnsupportedInput: A source that is not described, a folder without audio, a file whose name does not tell
            its speaker, or a speaker on both sides of the split.
    """
    members: list[Member] = []
    for name, folder in folders.items():
        if name not in sources:
            raise UnsupportedInput(
                f"{SOURCES_NAME} does not describe {name!r}; add it there, or choose of {', '.join(sources)}."
            )
        source = sources[name]
        kept, held = split_files(Folder(folder), source.hold_out_every, source.hold_out)
        split_of = dict.fromkeys(kept, "train") | dict.fromkeys(held, "held_out")
        members += [
            Member(
                Recording(path, f"{name}/{path.relative_to(folder).with_suffix('').as_posix()}"),
                source, _speaker(path, source), split_of[path],
            )
            for path in sorted(split_of)
        ]  # fmt: skip
    _refuse_shared_speakers(members)
    return members


def _speaker(path: Path, source: Source) -> str:
    if not source.speaker:
        return source.voice
    match = re.search(source.speaker, path.stem)
    if match is None:
        raise UnsupportedInput(
            f"The speaker of {path} is not found in its name by {source.speaker!r}; correct {SOURCES_NAME}."
        )
    return f"{source.name}-{match.group(1)}"


def _refuse_shared_speakers(members: Sequence[Member]) -> None:
    sides = {
        split: {m.speaker for m in members if m.source.speaker and m.split == split}
        for split in ("train", "held_out")
    }
    shared = sorted(sides["train"] & sides["held_out"])
    if shared:
        raise UnsupportedInput(
            f"Speakers {shared[:3]} are in clips to train on and in clips that are held out; give one file per "
            "speaker, or name the speakers' files in 'hold_out'."
        )


def chosen_members(members: Sequence[Member], plan: Plan) -> list[Member]:
    """Return the recordings that a plan takes."""
    return [
        member
        for member in members
        if member.source.name not in plan.skipped_sources
        and (not plan.domains or member.source.domain in plan.domains)
    ]


def build_corpus(
    codec: Codec, members: Sequence[Member], num_codebooks: int | None, out: Path, work: Path, say=print
) -> tuple[CorpusEntry, dict[str, float]]:
    """Encode recordings, and pack their tokens into ``out/<codec>.parquet``.

    Args:
        codec: The codec.
        members: What to encode; complete files in `work` are not made again.
        num_codebooks: Leading codebooks to keep; None for all.
        out: Folder of the corpora.
        work: Folder for one file per recording; can be removed afterwards.
        say: Takes lines of progress.

    Returns:
        The entry for the index, and the duration of each clip in seconds.

    Raises:
        CorruptInput: A recording that cannot be encoded.
        UnsupportedInput: No recordings, or settings that the codec does not take.
    """
    if not members:
        raise UnsupportedInput(
            f"There are no recordings for {codec.name}; name the folder of another source."
        )
    recordings = [member.recording for member in members]
    done = itertools.count(1)
    # tqdm draws on a terminal only; the lines go wherever stdout leads
    with tqdm(total=len(recordings), unit="file", desc=codec.name, disable=None) as bar:

        def show(report: FileReport) -> None:
            bar.update()
            number = next(done)
            if number % 100 == 0:
                say(f"{codec.name}: {number} of {len(recordings)} recordings")

        reports = export(
            recordings, codec, work, file_format="parquet", num_codebooks=num_codebooks, on_report=show
        )
    failed = [report for report in reports if report.status == "failed"]
    if failed:
        raise CorruptInput(
            f"{len(failed)} recordings could not be encoded, the first of them {failed[0].source} ({failed[0].error}); "
            "repair or remove them."
        )
    path = write_tokens(out / f"{codec.name}.parquet", _packed(recordings, work), overwrite=True)
    tokens = {name: clip for name, clip in iterate_tokens(path)}
    entry = CorpusEntry(
        file=path.name,
        sha256=file_sha256(path),
        num_bytes=path.stat().st_size,
        codec_weights=str(codec.weights),
        codec_weights_sha256=codec.weights.sha256,
        num_codebooks=next(iter(tokens.values())).num_codebooks,
        clips=len(tokens),
        duration_s=sum(clip.duration_s for clip in tokens.values()),
        tokens=sum(clip.num_tokens for clip in tokens.values()),
        raw_bits=sum(clip.bits for clip in tokens.values()),
    )
    return entry, {name: clip.duration_s for name, clip in tokens.items()}


def _packed(recordings: Sequence[Recording], work: Path) -> Iterator[tuple[str, Tokens]]:
    for recording in recordings:
        yield recording.name, read_token_file(work / f"{recording.name}.parquet")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make corpora and return the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _run(options), "the same command goes on from here")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m codecbook.codecs.corpus", description="Recordings to corpora of tokens."
    )
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER", help="where a source's recordings lie")
    parser.add_argument(
        "--out", type=Path, required=True, help=f"folder of the corpora; holds {SOURCES_NAME}"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("runs/tokens"),
        help="folder for single files (default: runs/tokens)",
    )
    parser.add_argument(
        "--codec",
        action="append",
        choices=codec_names(),
        help=f"(default: {', '.join(PLANS)}); may be repeated",
    )
    parser.add_argument(
        "--weights", default="bundled", help="bundled, pretrained or a path (default: bundled)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="every N-th recording alone, for a trial")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves the default")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    folders = dict(_named_folder(text) for text in options.folders)
    sources = read_sources(options.out / SOURCES_NAME)
    members = find_members(folders, sources)
    if options.limit:
        members = _thinned(members, options.limit)
    corpora, durations = {}, {}
    if (options.out / INDEX_NAME).is_file():
        index = read_index(options.out)
        corpora = dict(index.corpora)
        durations = {name: row.duration_s for name, row in index.clips.items()}
    for name in options.codec or PLANS:
        plan = PLANS.get(name, Plan())
        codec = load_codec(name, options.weights)
        corpora[name], found = build_corpus(
            codec, chosen_members(members, plan), plan.num_codebooks, options.out, options.work / name,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
        durations |= found
        print(_line(name, corpora[name]), flush=True)
    rows = [
        ClipRow(m.recording.name, m.source.name, m.source.domain, m.speaker, m.split, durations[m.recording.name])
        for m in members
        if m.recording.name in durations
    ]  # fmt: skip
    write_index(options.out, {name: corpora[name] for name in codec_names() if name in corpora}, rows)
    write_file(options.out / "README.md", readme(sources, read_index(options.out)), overwrite=True)
    print(f"{sum(entry.num_bytes for entry in corpora.values())} bytes in {options.out}")
    return 0


def _line(name: str, entry: CorpusEntry) -> str:
    share = 100 * 8 * entry.num_bytes / entry.raw_bits
    return (
        f"{name}: {entry.clips} clips, {entry.duration_s:.0f} s, {entry.tokens} tokens, {entry.num_bytes} bytes, "
        f"{share:.1f} % of raw"
    )


def _named_folder(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not separator or not Path(folder).is_dir():
        raise UnsupportedInput(
            f"{text!r} is no NAME=FOLDER with a folder that exists; write speech=/recordings/speech."
        )
    return name, Path(folder)


def _thinned(members: Sequence[Member], every: int) -> list[Member]:
    """Return every so-manieth recording of each side of the split, so that both sides keep some."""
    sides = [[m for m in members if m.split == split][::every] for split in ("train", "held_out")]
    return [m for side in sides for m in side]


if __name__ == "__main__":
    sys.exit(main())

"""Command line: make a folder of token corpora, one small Parquet file per codec.

    python -m codecbook.codecs.corpus --out data/tokens librispeech=FOLDER kathleen=FOLDER music=FOLDER

Each ``NAME=FOLDER`` says where the recordings of a source lie that ``sources.json`` in the output folder describes. The
same command goes on with an interrupted run, and makes again what another codec or other weights have made.
"""

import argparse
import dataclasses
import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from codecbook.codecs.base import Codec
from codecbook.codecs.corpus import index as indices
from codecbook.codecs.export import FileReport, export
from codecbook.codecs.registry import codec_names, load_codec
from codecbook.codecs.training.data import speaker_of, split_files
from codecbook.command_line import ArgumentParser, exit_status
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import check_folder, sha256_of
from codecbook.paths import path_as_text
from codecbook.recordings import Recording, search
from codecbook.tokens.parquet import iterate_tokens, write_tokens
from codecbook.tokens.token_files import read_token_file

_SAID_EVERY = 100  # recordings


@dataclass(frozen=True)
class Plan:
    """What of a codec goes into its corpus."""

    num_codebooks: int | None = None  # leading codebooks; None for all
    left_out: str = ""  # name or domain of the sources that are not encoded


PLANS: dict[str, Plan] = {
    "encodec_24khz": Plan(num_codebooks=8),
    # twice the rate of the others, and made for music: the many speakers at 16 kHz would say nothing of it
    "encodec_48khz": Plan(left_out="librispeech"),
    "snac_24khz": Plan(),
    "fsq_50hz": Plan(),
    "units_25hz": Plan(left_out="music"),
}
"""The corpora of ``data/tokens``."""


def find_clips(
    folders: Mapping[str, Path], sources: Mapping[str, indices.Source], known: Mapping[str, indices.ClipRow]
) -> dict[Path, indices.ClipRow]:
    """Find the recordings of sources, and say who speaks and which are held out; of no duration yet.

    Clips that are known to a corpus already, and their speakers, stay on their side.
    """
    clips: dict[Path, indices.ClipRow] = {}
    for name, folder in folders.items():
        if name not in sources:
            raise UnsupportedInput(f"{indices.SOURCES_NAME} has no {name!r}; add it, or take of {', '.join(sources)}.")
        source = sources[name]
        inside = {path: path.relative_to(folder) for path in search(folder)[0]}
        stems = Counter(path.with_suffix("") for path in inside.values())
        clip_of = {  # of a.mp3 and a.wav, both keep the suffix
            path: f"{name}/{path_as_text(below if stems[stem := below.with_suffix('')] > 1 else stem)}"
            for path, below in inside.items()
        }
        sides = {path: known[clip].split == "held_out" for path, clip in clip_of.items() if clip in known}
        kept, held = split_files(folder, source.hold_out_every, source.hold_out, source.speaker, sides)
        for path in sorted({**kept, **held}):
            split = "held_out" if path in held else "train"
            clips[path] = indices.ClipRow(clip_of[path], name, source.domain, _speaker(path, source), split, 0.0)
    return clips


def _speaker(path: Path, source: indices.Source) -> str:
    if not source.speaker:
        return source.voice
    if not (speaker := speaker_of(path, source.speaker)):
        raise UnsupportedInput(f"No speaker in the name of {path} by {source.speaker!r}; fix {indices.SOURCES_NAME}.")
    return f"{source.name}-{speaker}"


def build_corpus(
    codec: Codec, found: Mapping[Path, indices.ClipRow], plan: Plan, out: Path, work: Path
) -> tuple[indices.CorpusEntry, dict[str, float]]:
    """Encode the recordings of a plan one by one into a work folder, and pack them into ``out/<codec>.parquet``.

    Complete files in the work folder are not made again. Recordings that cannot be encoded are named and left out;
    if that is all of them, it is an error. Returns the entry for the index, and each clip's duration in seconds.
    """
    recordings = [
        Recording(path, row.clip) for path, row in found.items() if plan.left_out not in (row.source, row.domain)
    ]
    if not recordings:
        raise UnsupportedInput(f"There are no recordings for {codec.name}; name the folder of another source.")
    # tqdm draws on a terminal only; the lines go wherever stdout leads
    done = itertools.count(1)  # a bar that is not drawn does not count
    with tqdm(total=len(recordings), unit="file", desc=codec.name, disable=None) as bar:

        def show(_report: FileReport) -> None:
            bar.update()
            if (count := next(done)) % _SAID_EVERY == 0:
                _say(f"{codec.name}: {count} of {len(recordings)} recordings")

        reports = export(
            recordings, codec, work, file_format="parquet", num_codebooks=plan.num_codebooks, on_report=show
        )
    failed = [report for report in reports if report.status == "failed"]
    if len(failed) == len(reports):
        raise CorruptInput(f"None of {len(failed)} recordings could be encoded; the first: {failed[0].error}")
    for report in failed:
        _say(f"{codec.name}: left out: {report.source} ({report.error})")
    if failed:
        _say(f"{codec.name}: left out: {len(failed)} of {len(reports)} recordings; repair them, and run this again")
    clips = (
        (recording.name, read_token_file(work / report.name))
        for recording, report in zip(recordings, reports, strict=True)
        if report.status != "failed"
    )
    path = write_tokens(out / f"{codec.name}.parquet", clips, overwrite=True)
    tokens = dict(iterate_tokens(path))
    clips_of = list(tokens.values())
    entry = indices.CorpusEntry(
        file=path.name, sha256=sha256_of(path), num_bytes=path.stat().st_size, codec_weights=str(codec.weights),
        codec_weights_sha256=codec.weights.sha256, num_codebooks=clips_of[0].num_codebooks, clips=len(clips_of),
        duration_s=sum(clip.duration_s for clip in clips_of), tokens=sum(clip.num_tokens for clip in clips_of),
        raw_bits=sum(clip.bits for clip in clips_of),
    )  # fmt: skip
    _say(
        f"{codec.name}: {entry.clips} clips, {entry.duration_s:.0f} s, {entry.tokens} tokens, {entry.num_bytes} bytes, "
        f"{100 * 8 * entry.num_bytes / entry.raw_bits:.1f} % of raw"
    )
    return entry, {name: clip.duration_s for name, clip in tokens.items()}


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make corpora and return the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _run(options), "the same command goes on from here", options)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.codecs.corpus", description="Recordings to corpora of tokens.")
    add = parser.add_argument
    add("folders", nargs="+", metavar="NAME=FOLDER", help="where a source's recordings lie")
    add("--out", type=Path, required=True, help=f"folder of the corpora; holds {indices.SOURCES_NAME}")
    add("--work", type=Path, default=Path("runs/tokens"), help="folder for single files (default: runs/tokens)")
    add("--codec", action="append", choices=codec_names(), help=f"(default: {', '.join(PLANS)}); may be repeated")
    add("--codebooks", type=int, help="keep at most so many leading codebooks")
    add("--weights", default="bundled", help="bundled, pretrained or a path (default: bundled)")
    return parser


def _run(options: argparse.Namespace) -> int:
    check_folder(options.out)
    check_folder(options.work)
    folders: dict[str, Path] = {}
    for text in options.folders:
        name, separator, folder = text.partition("=")
        if not (name and separator) or not Path(folder).is_dir():
            raise UnsupportedInput(f"{text!r} is no NAME=FOLDER with a folder that exists; correct it.")
        if name in folders:
            raise UnsupportedInput(f"{name} is given twice, the second time by {text!r}; give each source once.")
        folders[name] = Path(folder)
    sources = indices.read_sources(options.out / indices.SOURCES_NAME)
    is_there = (options.out / indices.INDEX_NAME).is_file()
    index = indices.read_index(options.out) if is_there else indices.TokenIndex(options.out, {}, {})
    found = find_clips(folders, sources, index.clips)
    corpora = dict(index.corpora)
    durations = {name: row.duration_s for name, row in index.clips.items()}
    for name in options.codec or PLANS:
        codec, plan = load_codec(name, options.weights), PLANS.get(name, Plan())
        if options.codebooks:
            plan = dataclasses.replace(plan, num_codebooks=min(options.codebooks, len(codec.codebook_sizes)))
        corpora[name], durations_s = build_corpus(codec, found, plan, options.out, options.work / name)
        durations |= durations_s
    rows = [dataclasses.replace(row, duration_s=durations[row.clip]) for row in found.values() if row.clip in durations]
    indices.write_index(options.out, {name: corpora[name] for name in codec_names() if name in corpora}, rows)
    print(f"{sum(entry.num_bytes for entry in corpora.values())} bytes in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

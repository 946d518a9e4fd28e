"""Command line: ``python -m codecbook.coding compress | decompress | inspect | verify``.

    python -m codecbook.coding compress song.wav song.cbs --codec encodec_24khz --bandwidth 6
    python -m codecbook.coding decompress song.cbs song.wav
    python -m codecbook.coding verify song.cbs

Errors are one line on stderr, and exit status 2; status 1 means that a stream is damaged, and that what is intact was
decoded.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from codecbook import audio
from codecbook.codecs import Codec, codec_names
from codecbook.coding import api, stream_audio, stream_models
from codecbook.coding.stream_report import Progress
from codecbook.coding.stream_writer import DEFAULT_SEGMENT_S
from codecbook.command_line import exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    logging.basicConfig(format="codecbook: %(message)s", stream=sys.stderr)
    options = _parser().parse_args(arguments)
    return exit_status(lambda: options.command(options), "nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m codecbook.coding", description="Recordings to codecbook streams (.cbs) and back."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    encoding = commands.add_parser("compress", help="encode a recording")
    encoding.add_argument("source", type=Path, help="wav, flac, ogg, opus, mp3 or aiff")
    encoding.add_argument("target", type=Path, help="the stream, usually .cbs")
    names = ", ".join(codec_names())
    encoding.add_argument(
        "--codec", default=api.DEFAULT_CODEC, help=f"{names} (default: {api.DEFAULT_CODEC})"
    )
    encoding.add_argument(
        "--bandwidth",
        type=float,
        metavar="KBPS",
        help=f"nominal bitrate (default: {api.DEFAULT_BANDWIDTH_KBPS:g} where the codec offers it, else all codebooks)",
    )
    encoding.add_argument(
        "--segment-seconds",
        type=float,
        default=DEFAULT_SEGMENT_S,
        metavar="S",
        help="audio in a segment, which is what damage to one byte can cost (default: %(default)g)",
    )
    _add_common(encoding)
    encoding.set_defaults(command=_compress)

    decoding = commands.add_parser("decompress", help="decode a stream, or a stretch of it")
    decoding.add_argument("source", type=Path, help="a stream")
    decoding.add_argument("target", type=Path, help="wav, flac, ogg or mp3")
    decoding.add_argument("--start", type=float, default=0.0, metavar="S", help="from this second on")
    decoding.add_argument("--end", type=float, metavar="S", help="up to this second")
    _add_common(decoding)
    decoding.set_defaults(command=_decompress)

    inspecting = commands.add_parser("inspect", help="say what a stream holds, without decoding it")
    inspecting.add_argument("source", type=Path)
    inspecting.set_defaults(command=_inspect)

    verifying = commands.add_parser("verify", help="decode all codes of a stream and make every check")
    verifying.add_argument("source", type=Path)
    verifying.add_argument(
        "--lm", default="default", help="folder of its language model, or 'none' (default: found by name)"
    )
    verifying.set_defaults(command=_verify)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", help="of the codec: bundled, pretrained, random:SEED or a path")
    parser.add_argument(
        "--lm",
        default="default",
        help="folder of an exact language model, or 'none' (default: the bundled one)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def _compress(options: argparse.Namespace) -> int:
    codec = stream_models.codec_by_name(options.codec, options.weights)
    bandwidth_kbps = options.bandwidth
    if bandwidth_kbps is None and api.DEFAULT_BANDWIDTH_KBPS in codec.bandwidths_kbps:
        bandwidth_kbps = api.DEFAULT_BANDWIDTH_KBPS
    report = _with_progress(
        lambda show: api.compress_file(
            options.source,
            options.target,
            codec,
            bandwidth_kbps,
            _lm(options),
            segment_s=options.segment_seconds,
            overwrite=options.overwrite,
            on_progress=show,
        )
    )
    print(f"{options.target}: {_summary(report)}")
    return 0


def _lm(options: argparse.Namespace) -> str | None:
    return None if options.lm == "none" else options.lm


def _decompress(options: argparse.Namespace) -> int:
    stream_audio.check_target(options.target, options.overwrite)
    if options.start != 0 or options.end is not None:
        decoded = api.decompress(
            options.source,
            codec=_codec(options),
            lm=_lm(options),
            start_s=options.start,
            end_s=options.end,
        )
        audio.save(decoded.clip, options.target, options.overwrite)
        print(f"{options.target}: {decoded.clip.duration_s:.3f} s")
        return _damage(decoded.damage, decoded.notes)
    report = _with_progress(
        lambda show: api.decompress_file(
            options.source,
            options.target,
            weights=options.weights,
            lm=_lm(options),
            overwrite=options.overwrite,
            on_progress=show,
        )
    )
    print(f"{options.target}: {report.duration_s:.3f} s, {report.header.template.codec}")
    return _damage(report.damage, report.notes)


def _codec(options: argparse.Namespace) -> Codec | None:
    if options.weights is None:
        return None
    return stream_models.codec_of(api.inspect(options.source).header, None, options.weights)


def _inspect(options: argparse.Namespace) -> int:
    report = api.inspect(options.source)
    header, known = report.header, report.header.template
    print(f"{options.source}: {_summary(report)}")
    print(
        f"  codec {known.codec or 'unknown'}, {known.weights or 'weights unknown'}, {header.codec_sha256[:16]}"
    )
    print(f"  {known.sample_rate_hz} Hz, {known.channels} channel(s), {known.num_samples} samples")
    books = sorted(set(zip(known.codebook_sizes, known.frame_rates_hz, strict=True)))
    print(
        f"  {known.num_codebooks} codebook(s): {', '.join(f'{size} at {rate:g} Hz' for size, rate in books)}"
    )
    lm = f", {header.lm_name or 'unnamed'} ({header.lm_sha256[:16]})" if header.lm_sha256 else ""
    print(f"  coder {header.coder}{lm}, order {header.order}")
    print(
        f"  {header.num_rows} rows in {header.num_segments} segment(s) of up to {header.rows_per_segment}, "
        f"{len(report.segments)} found"
    )
    return _damage(report.damage, report.notes)


def _verify(options: argparse.Namespace) -> int:
    report = _with_progress(lambda show: api.verify(options.source, lm=_lm(options), on_progress=show))
    print(f"{options.source}: {_summary(report)}")
    status = _damage(report.damage, report.notes)
    print("damaged" if status else "intact: every code passes its checksum")
    return status


def _summary(report: api.StreamReport) -> str:
    return f"{report.duration_s:.3f} s, {report.num_bytes} bytes, {report.bitrate_kbps:.3f} kbps"


def _damage(damage: Sequence[object], notes: Sequence[str]) -> int:
    for note in notes:
        print(f"  {note}")
    for part in damage:
        print(f"  {part}")
    return 1 if damage or notes else 0


def _with_progress(work: Callable[[Progress], api.StreamReport]) -> api.StreamReport:
    # tqdm draws on a terminal only
    with tqdm(unit="s", disable=None, bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s") as bar:

        def show(done_s: float, total_s: float | None) -> None:
            bar.total = max(total_s or 0.0, done_s)
            bar.update(done_s - bar.n)

        return work(show)


if __name__ == "__main__":
    sys.exit(main())

"""Command line: ``python -m codecbook.codecs list | fetch | export | to-wav | inspect``.

    python -m codecbook.codecs export "music/**/*.mp3" --codec encodec_24khz --bandwidth 6 --outdir tokens
    python -m codecbook.codecs inspect tokens/song.npq
    python -m codecbook.codecs to-wav tokens/song.npq --out song.wav

Errors are one line on stderr, and exit status 2; status 1 means that some recordings of an export failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from codecbook import audio, files
from codecbook.codecs.export import FileReport, export
from codecbook.codecs.registry import DOWNLOAD_MB, codec_names, load_codec
from codecbook.command_line import ArgumentParser, exit_status
from codecbook.errors import UnsupportedInput
from codecbook.models.weights import weight_kinds
from codecbook.recordings import find_recordings
from codecbook.tokens.parquet import read_tokens
from codecbook.tokens.token_files import FORMATS, header_bytes, read_token_file
from codecbook.tokens.tokens import Tokens


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: options.command(options), "the same command goes on from here", options)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.codecs", description="Audio to tokens and back.")
    commands = parser.add_subparsers(required=True, metavar="command")

    listing = commands.add_parser("list", help="name the codecs, and which weights each can have")
    listing.set_defaults(command=_list)

    fetching = commands.add_parser("fetch", help="download what codecs' authors published, for use without a network")
    fetching.add_argument("names", nargs="+", metavar="CODEC", choices=tuple(DOWNLOAD_MB), help=", ".join(DOWNLOAD_MB))
    fetching.set_defaults(command=_fetch)

    exporting = commands.add_parser("export", help="encode recordings into token files")
    add = exporting.add_argument
    add("inputs", nargs="+", help="files, folders, or quoted patterns such as 'music/**/*.mp3'")
    add("--codec", required=True, choices=codec_names())
    _add_model_options(exporting, "bundled", "bundled")
    size = exporting.add_mutually_exclusive_group()
    size.add_argument("--codebooks", type=int, help="how many leading codebooks (default: all)")
    size.add_argument("--bandwidth", type=float, metavar="KBPS", help="nominal bitrate instead of codebooks")
    add("--chunk-seconds", type=float, metavar="S", help="audio at a time (default: the codec's own)")
    add("--format", choices=FORMATS, default="npq", help="of the token files (default: npq)")
    add("--outdir", type=Path, required=True, help="for token files, export.json and export.csv")
    exporting.set_defaults(command=_export)

    decoding = commands.add_parser("to-wav", help="decode a token file")
    add = decoding.add_argument
    add("file", type=Path)
    add("--codec", choices=codec_names(), help="(default: the one that the file names)")
    _add_model_options(decoding, None, "those that made the file")
    add("--codebooks", type=int, help="how many leading codebooks to decode (default: all)")
    add("--clip", help="which clip of a Parquet file of several")
    add("--out", type=Path, required=True, help="wav, flac, ogg or mp3")
    add("--overwrite", action="store_true")
    decoding.set_defaults(command=_to_wav)

    inspecting = commands.add_parser("inspect", help="say what a token file holds")
    inspecting.add_argument("file", type=Path)
    inspecting.set_defaults(command=_inspect)
    return parser


def _add_model_options(parser: argparse.ArgumentParser, weights: str | None, default: str) -> None:
    text = f"bundled, pretrained, random:SEED or a path (default: {default})"
    parser.add_argument("--weights", default=weights, help=text)
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")


def _list(_options: argparse.Namespace) -> int:
    for name in codec_names():
        print(f"{name:16} {', '.join(weight_kinds(name))}, or a path")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    for name in options.names:
        print(f"{name}: about {DOWNLOAD_MB[name]} MB, unless it is here already", flush=True)
        print(f"{name}: {load_codec(name, 'pretrained').weights}", flush=True)
    return 0


def _export(options: argparse.Namespace) -> int:
    recordings = find_recordings(options.inputs)
    files.check_folder(options.outdir)  # before the weights are loaded
    codec = load_codec(options.codec, options.weights, options.device)
    # tqdm draws on a terminal only; the lines below go to stdout wherever it leads
    with tqdm(total=len(recordings), unit="file", disable=None) as progress:

        def show(report: FileReport) -> None:
            progress.update()
            progress.write(_line(report), file=sys.stdout)
            progress.set_postfix_str("")

        reports = export(
            recordings, codec, options.outdir, file_format=options.format, bandwidth_kbps=options.bandwidth,
            num_codebooks=options.codebooks, chunk_s=options.chunk_seconds, on_report=show,
            on_progress=lambda done_s: progress.set_postfix_str(f"{done_s:.0f} s of the next one"),
        )  # fmt: skip
    found = [report.status for report in reports]
    counts = ", ".join(f"{found.count(status)} {status}" for status in ("exported", "skipped", "failed"))
    print(f"{counts}; see {options.outdir}/export.csv")
    return 1 if "failed" in found else 0


def _line(report: FileReport) -> str:
    if report.status == "failed":
        return f"failed    {report.source}: {report.error}"
    frames, rates, checked = sorted(set(report.frames)), sorted(set(report.frame_rates_hz)), report.seam_tokens_checked
    seams = f", {report.seam_tokens_differing} of {checked} tokens differ from one pass" if checked else ""
    return (
        f"{report.status:9} {report.output}: {report.codec} ({report.weights}), {report.sample_rate_hz} Hz, "
        f"{'/'.join(f'{rate:g}' for rate in rates)} frames/s x {len(report.frames)}, "
        f"{'/'.join(str(count) for count in frames)} frames, {report.header_bytes} B header, "
        f"{report.file_bytes} B, {report.bitrate_kbps:.2f} kbps, 1:{report.ratio_to_pcm16:.1f} of 16-bit PCM, "
        f"1:{report.ratio_to_source:.1f} of the source{seams}"
    )


def _to_wav(options: argparse.Namespace) -> int:
    audio.write_format(options.out)
    files.check_target(options.out, options.overwrite)
    tokens = read_token_file(options.file, options.clip)
    name = options.codec or tokens.codec
    if not name:
        raise UnsupportedInput(f"{options.file} does not say which codec made it; name it with --codec.")
    codec = load_codec(name, options.weights or _weights_that_made(tokens), options.device)
    clip = codec.decode(tokens, options.codebooks)
    audio.save(clip, options.out, overwrite=options.overwrite)
    print(f"{options.out}: {clip.duration_s:.3f} s, {clip.sample_rate_hz} Hz, {codec.name} ({codec.weights})")
    return 0


def _weights_that_made(tokens: Tokens) -> str:
    """Turn what `Weights` prints (``"random: seed 3"``) back into an argument of `load_codec`."""
    kind, _, source = tokens.weights.partition(": ")
    if kind == "random":
        return f"random:{source.removeprefix('seed ')}"
    if source and Path(source).exists():
        return source
    return kind or "bundled"


def _inspect(options: argparse.Namespace) -> int:
    file = options.file
    clips = read_tokens(file) if file.suffix == ".parquet" else {"": read_token_file(file)}
    print(f"{file}: {file.stat().st_size} bytes, {header_bytes(file)} of them header, {len(clips)} clip(s)")
    for name, tokens in clips.items():
        kbps = tokens.bits / tokens.duration_s / 1000
        print(f"{name or file.stem}: {tokens.codec or 'codec unknown'}, {tokens.weights or 'weights unknown'}")
        print(f"  {tokens.duration_s:.3f} s, {tokens.num_tokens} tokens, {kbps:.3f} kbps raw")
        for k, (codes, size) in enumerate(zip(tokens.codes, tokens.codebook_sizes, strict=True)):
            counts = np.unique(codes, return_counts=True)[1]
            shares = counts / max(1, codes.size)
            entropy_bits = -(shares * np.log2(shares)).sum()
            print(
                f"  codebook {k}: {codes.size} codes at {tokens.frame_rates_hz[k]:g} Hz, {counts.size} of {size} used, "
                f"entropy {entropy_bits:.2f} of {np.log2(size):.2f} bits"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Command line: ``python -m codecbook.coding compress | decompress | inspect | verify | convert``.

    python -m codecbook.coding compress song.wav song.cbs --codec encodec_24khz --bandwidth 6
    python -m codecbook.coding decompress song.cbs song.wav
    python -m codecbook.coding verify song.cbs
    python -m codecbook.coding convert song.ecdc song.cbs
    sox song.flac -t wav - | python -m codecbook.coding compress - - | ssh there 'cat > song.cbs'

All but ``compress`` take EnCodec's ``.ecdc`` as well. ``-`` is standard input or output.

Errors are one line on stderr, and exit status 2; status 1 means that a stream is damaged, and that what is intact was
decoded.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from codecbook import audio
from codecbook.codecs import codec_names
from codecbook.coding import api, pipes
from codecbook.coding.conceal import CONCEALMENTS
from codecbook.coding.convert import convert
from codecbook.coding.counts import GRID_DIALECTS
from codecbook.coding.ecdc.header import MAGIC, EcdcHeader
from codecbook.coding.ecdc.read import decode_audio, read_ecdc_codes
from codecbook.coding.ecdc.segments import MAX_DURATION_S, EcdcOutline, outline_ecdc
from codecbook.coding.stream.header import Parity
from codecbook.coding.stream.models import codec_by_name
from codecbook.coding.stream.reader import Progress, check_stretch, inspect, verify
from codecbook.coding.stream.writer import DEFAULT_SEGMENT_S
from codecbook.command_line import ArgumentParser, exit_status
from codecbook.errors import CodecbookError, CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import check_target, refuse_same_file, write_file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    logging.basicConfig(format="codecbook: %(message)s", stream=sys.stderr)
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _run(options), "nothing was written", options)


def _run(options: argparse.Namespace) -> int:
    """Run a command on files, which pipes are made into."""
    options.label = pipes.name_of(options.source)
    with contextlib.ExitStack() as stack:
        if hasattr(options, "target"):
            options.label = pipes.name_of(options.target, is_target=True)
            options.target = stack.enter_context(pipes.writable(options.target, options.suffix))
        source = pipes.name_of(options.source)
        options.source = stack.enter_context(pipes.readable(options.source))
        try:
            return options.command(options)
        except CorruptInput as error:  # bytes have no name
            raise error if source in str(error) else CorruptInput(f"{source}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.coding", description="Recordings to streams (.cbs) and back.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, run: Callable, text: str, source: str, target: str = "", suffix: str = "") -> ArgumentParser:
        command = commands.add_parser(name, help=text)
        command.add_argument("source", type=Path, help=source)
        if target:
            command.add_argument("target", type=Path, help=target)
        command.set_defaults(command=run, suffix=suffix)
        return command

    sounds = "wav, flac, ogg, opus, mp3 or aiff"
    encoding = add("compress", _compress, "encode a recording", sounds, "the stream, usually .cbs", ".cbs")
    option = encoding.add_argument
    names = f"{', '.join(codec_names())} (default: {api.DEFAULT_CODEC})"
    option("--codec", default=api.DEFAULT_CODEC, help=names)
    option("--exact", action="store_true", help="compute in integers, and store the hash of the decoded audio")
    adapting = "let the language model learn within each segment; with the bundled models this costs a little"
    option("--adapt", action="store_true", help=adapting)
    option("--bandwidth", type=float, metavar="KBPS", help="nominal bitrate (default: the codec's own)")
    lost = "audio in a segment, which damage to one byte can cost (default: %(default)g)"
    option("--segment-seconds", type=float, default=DEFAULT_SEGMENT_S, metavar="S", help=lost)
    restored = "add M segments to every K, in G groups, that restore up to M lost ones of each: 10,1 or 20,2,3"
    option("--parity", type=_parity, metavar="K,M,G", help=f"{restored} (default: none)")
    corrected = "of each 255 bytes, N of Reed-Solomon parity, half of which may be wrong: 22 for 1 %% of wrong bytes"
    option("--inner-parity", type=int, default=0, metavar="N", help=f"{corrected} (default: no inner code)")
    text = "decode a stream, or a stretch of it"
    decoding = add("decompress", _decompress, text, "a stream", "wav, flac, ogg or mp3", ".wav")
    option = decoding.add_argument
    option("--start", type=float, default=0.0, metavar="S", help="from this second on")
    option("--end", type=float, metavar="S", help="up to this second")
    heard = "what is heard where codes are lost (default: %(default)s; .ecdc: silence)"
    option("--conceal", choices=CONCEALMENTS, default="interpolate", help=heard)
    option("--salvage", action="store_true", help="of damaged raw codes, decode what is there, right or wrong")
    add("inspect", _inspect, "say what a stream holds, without decoding it", "a stream")
    verifying = add("verify", _verify, "decode all codes of a stream and make every check", "a stream")
    text, target = "put codes into another format or version", "ends with .cbs or .ecdc; as a pipe, it is .cbs"
    converting = add("convert", _convert, text, "a stream, .cbs or .ecdc", target, ".cbs")
    option = converting.add_argument
    written = "of a new .ecdc: 0 raw, 1 as package encodec, 4 with checksums (default: %(default)s)"
    option("--acv", type=int, choices=(0, 1, 4), default=0, help=written)
    option("--dialect", choices=tuple(GRID_DIALECTS), help="of acv 4 (default: qstep128)")
    option("--to-lm", help="of the new stream: default, a path, or 'none' (default: the authors' for --acv 1 and 4)")
    for command in (encoding, decoding, verifying, converting):
        command.add_argument("--weights", help="of the codec: bundled, pretrained, random:SEED or a path")
    for command in (encoding, decoding, converting):
        command.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    for command in (encoding, decoding, verifying, converting):
        text = "folder of an exact language model (of an .ecdc: a file), or 'none' (default: found by name)"
        command.add_argument("--lm", default="default", type=lambda text: None if text == "none" else text, help=text)
    for command in (decoding, verifying, converting):
        option = command.add_argument_group(".ecdc streams alone").add_argument
        option("--qstep", type=float, metavar="NATS", help="step of the logit grid, where the header leaves it open")
        option("--lm-dtype", choices=("float32", "float64"), help="type of the model, likewise")
        refused = "refuse what a header claims beyond (default: %(default)g)"
        option("--max-seconds", type=float, default=MAX_DURATION_S, metavar="S", help=refused)
    return parser


def _parity(text: str) -> Parity:
    try:
        return Parity(*map(int, text.split(",")))
    except (TypeError, ValueError) as error:
        reason = error if isinstance(error, CodecbookError) else "give whole numbers: 10,1 or 10,1,3"
        raise argparse.ArgumentTypeError(f"{text!r}: {reason}") from error


def _compress(options: argparse.Namespace) -> int:
    kbps = "default" if options.bandwidth is None else options.bandwidth
    with _progress() as show:
        report = api.compress_file(
            options.source, options.target, options.codec, kbps, options.lm, weights=options.weights,
            segment_s=options.segment_seconds, parity=options.parity, inner_parity=options.inner_parity,
            overwrite=options.overwrite, on_progress=show, exact=options.exact, adapt=options.adapt,
        )  # fmt: skip
    print(f"{options.label}: {_summary(report.duration_s, report.num_bytes)}")
    return 0


def _decompress(options: argparse.Namespace) -> int:
    if _is_ecdc(options.source):
        return _decompress_ecdc(options)
    with _progress() as show:
        report = api.decompress_file(
            options.source, options.target, weights=options.weights, lm=options.lm,
            start_s=options.start, end_s=options.end, conceal=options.conceal, salvage=options.salvage,
            overwrite=options.overwrite,
            on_progress=show,
        )  # fmt: skip
    print(f"{options.label}: {report.duration_s:.3f} s, {report.header.format.codec}")
    return _damage(report.damage, report.notes)


def _decompress_ecdc(options: argparse.Namespace) -> int:
    api.check_sound_target(options.target, options.overwrite, options.source)
    outline = _ecdc(options)
    check_stretch(outline.duration_s, options.start, options.end)
    read = read_ecdc_codes(outline.data, options.lm, **_ecdc_options(options))
    codec = codec_by_name(outline.shape.codec, options.weights or outline.shape.weights)
    rate_hz = outline.shape.sample_rate_hz
    end = None if options.end is None else round(options.end * rate_hz)
    clip = audio.clip_from_array(decode_audio(read, codec).samples[:, round(options.start * rate_hz) : end], rate_hz)
    audio.save(clip, options.target, options.overwrite)
    print(f"{options.label}: {clip.duration_s:.3f} s, {codec.name} ({codec.weights})")
    return _damage(read.damage)


def _inspect(options: argparse.Namespace) -> int:
    if _is_ecdc(options.source):
        return _inspect_ecdc(options)
    report = inspect(options.source)
    header, known = report.header, report.header.format
    print(f"{options.label}: {_summary(report.duration_s, report.num_bytes)}")
    print(f"  codec {known.codec or 'unknown'}, {known.weights or 'weights unknown'}, {known.weights_sha256[:16]}")
    if header.exact_sha256:
        print(f"  in exact integers, {header.exact_sha256}")
    print(f"  {known.sample_rate_hz} Hz, {known.channels} channel(s), {header.num_samples} samples")
    books = sorted(set(zip(known.codebook_sizes, known.frame_rates_hz, strict=True)))
    print(f"  {known.num_codebooks} codebook(s): {', '.join(f'{size} at {rate:g} Hz' for size, rate in books)}")
    lm = f", {header.lm_name or 'unnamed'} ({header.lm_sha256[:16]})" if header.lm_sha256 else ""
    print(f"  coder {header.coder}{lm}{', adapting' if header.adapt_step else ''}, order {header.order}")
    print(
        f"  {header.num_rows} rows in {header.num_segments} segment(s) of up to {header.rows_per_segment}, "
        f"{len(report.segments)} found"
    )
    if parity := header.parity:
        print(
            f"  parity {parity.parity} to {parity.count}, {parity.groups} group(s) side by side: "
            f"{len(report.parity_segments)} segment(s) found"
        )
    return _damage(report.damage, report.notes)


def _inspect_ecdc(options: argparse.Namespace) -> int:
    """Print what a stream says of itself, and what its checksums say of it, without loading a model."""
    outline = outline_ecdc(options.source.read_bytes(), max_duration_s=float("inf"))
    header, shape = outline.header, outline.shape
    print(f"{options.label}: .ecdc, {_summary(outline.duration_s, len(outline.data))}")
    print(f"  codec {shape.codec}, by its name with {shape.weights} weights")
    print(f"  {shape.sample_rate_hz} Hz, {shape.channels} channel(s), {header.num_samples} samples")
    print(f"  {header.num_codebooks} codebook(s): {shape.codebook_size} at {shape.frame_rate_hz} Hz")
    print(f"  coder {_ecdc_coder(header)}")
    checks = "each with a checksum" if header.is_chunked else "without checksums"
    print(f"  {sum(outline.frames)} frames in {len(outline.frames)} segment(s), {checks}")
    return _damage(
        [
            f"Segment {index}, bytes {chunk.start} to {chunk.end}, is damaged: its checksum differs."
            for index, chunk in enumerate(outline.chunks)
            if not chunk.is_intact
        ]
    )


def _verify(options: argparse.Namespace) -> int:
    if _is_ecdc(options.source):
        outline = _ecdc(options)
        damage, notes = read_ecdc_codes(outline.data, options.lm, **_ecdc_options(options)).damage, ()
        print(f"{options.label}: .ecdc, {_summary(outline.duration_s, len(outline.data))}")
        intact = "intact: every code is coded again to the bytes of the stream"
        if not outline.header.uses_lm:
            intact = "complete; codes without a language model have no check that could fail"
    else:
        with _progress() as show:
            report = verify(options.source, lm=options.lm, on_progress=show)
        damage, notes = report.damage, report.notes
        print(f"{options.label}: {_summary(report.duration_s, report.num_bytes)}")
        intact = "intact: every code passes its checksum"
        if not damage and report.header.audio_sha256:
            if api.sounds_as_sent(options.source, weights=options.weights, lm=options.lm):
                intact += ", and the audio is what the sender heard"
            else:
                notes = (*notes, "The audio that is decoded here is not what the sender heard: its hash differs.")
    status = _damage(damage, notes)
    print("damaged" if status else intact)
    return status


def _convert(options: argparse.Namespace) -> int:
    to = options.target.suffix.lower().removeprefix(".")
    if to not in ("cbs", "ecdc"):
        raise UnsupportedInput(f"Cannot tell what to convert to from {options.target.name}; end it with .cbs or .ecdc.")
    refuse_same_file(options.source, options.target)
    check_target(options.target, options.overwrite)
    to_lm = options.to_lm or ("default" if to == "ecdc" and options.acv else "none")
    if not options.source.is_file():
        raise MissingInput(f"There is no stream at {options.source}; check the path.")
    converted = convert(
        options.source.read_bytes(), to, lm=options.lm, to_lm=None if to_lm == "none" else to_lm,
        acv=options.acv, dialect=options.dialect, weights=options.weights, **_ecdc_options(options),
    )  # fmt: skip
    write_file(options.target, converted.data, options.overwrite)
    tokens = converted.tokens
    print(f"{options.label}: {len(converted.data)} bytes, {tokens.duration_s:.3f} s, {tokens.codec}")
    gains = f" and {len(tokens.scales)} scales" if tokens.scales else ""
    print(f"  kept: all {tokens.num_tokens} codes, the length{gains}")
    for lost in converted.lost:
        print(f"  not kept: {lost}")
    return 0


def _is_ecdc(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _ecdc(options: argparse.Namespace) -> EcdcOutline:
    """Check an ``.ecdc`` stream as far as that is possible without models."""
    outline = outline_ecdc(options.source.read_bytes(), max_duration_s=options.max_seconds)
    if outline.header.uses_lm and options.lm is None:
        raise UnsupportedInput("The stream is coded with a language model, and lm=None was given; leave it out.")
    return outline


def _ecdc_options(options: argparse.Namespace) -> dict[str, Any]:
    return {"qstep": options.qstep, "lm_dtype": options.lm_dtype, "max_duration_s": options.max_seconds}


def _ecdc_coder(header: EcdcHeader) -> str:
    if header.coding == "raw":
        return "raw"
    if header.coding == "upstream":
        return "of package encodec (acv 1), language model of the codec's authors or another of its shape"
    values = f"fp {header.fp_scale}, mr {header.min_range}, tau {header.tau}"
    return f"of pull request 95 (acv {header.acv}; {values}), language model as for acv 1"


def _summary(duration_s: float, num_bytes: int) -> str:
    kbps = num_bytes * 8 / 1000 / duration_s if duration_s else 0.0
    return f"{duration_s:.3f} s, {num_bytes} bytes, {kbps:.3f} kbps"


def _damage(damage: Sequence[object], notes: Sequence[str] = ()) -> int:
    for line in (*notes, *damage):
        print(f"  {line}")
    return 1 if damage or notes else 0


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    # tqdm draws on a terminal only
    with tqdm(unit="s", disable=None, bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s") as bar:

        def show(done_s: float, total_s: float | None) -> None:
            bar.total = max(total_s or 0.0, done_s)
            bar.update(done_s - bar.n)

        yield show


if __name__ == "__main__":
    sys.exit(main())

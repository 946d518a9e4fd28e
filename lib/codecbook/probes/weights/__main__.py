"""Command line: ``python -m codecbook.probes.weights compress|inspect|verify``.

    python -m codecbook.probes.weights compress encodec_24khz --step 2e-4 --out small.cbw   as few bits as that loses
    python -m codecbook.probes.weights compress model.safetensors --scheme int4_g64 --out small.cbw
    python -m codecbook.probes.weights compress encodec_24khz --out same.cbw                without loss
    python -m codecbook.probes.weights inspect small.cbw                                    where its bytes are
    python -m codecbook.probes.weights verify encodec_24khz small.cbw                       what it changes

A model is the name of a codec or ``lm_`` and one, for its bundled weights; a folder of such a model; or any
``.safetensors`` file. A compressed codec plays by ``load_codec(NAME, weights="small.cbw")``.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from codecbook import clips as clip_files
from codecbook.audio import Clip, convert
from codecbook.codecs import codec_names, load_codec
from codecbook.command_line import ArgumentParser, exit_status, positive_number
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.model_files import load_lm
from codecbook.lm.models import ARCHITECTURES
from codecbook.paths import data_dir
from codecbook.probes.weights.container import Model, account, bits_per_weight, compress
from codecbook.probes.weights.frontier import SOUND_STEP, Choose, one_scheme, spent_by_loss
from codecbook.probes.weights.moments import Moments, codec_moments, lm_moments
from codecbook.probes.weights.records import AS_IT_IS, TIED, CompressedFile
from codecbook.probes.weights.schemes.table import SCHEMES
from codecbook.probes.weights.tensors import ModelFile

_CLIPS, _CLIP_S, _FRAMES = 12, 6, 300  # of calibration
_AT_ONCE = 1 << 22  # values compared


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: options.command(options), options=options)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="python -m codecbook.probes.weights")
    commands = parser.add_subparsers(required=True, metavar="command")
    writing = commands.add_parser("compress", help="write a model as one .cbw file")
    writing.add_argument("model", help="codec, lm_CODEC, folder, or .safetensors file")
    writing.add_argument("--out", type=Path, required=True, help="the new file")
    way = writing.add_mutually_exclusive_group()
    way.add_argument("--step", type=positive_number, help="of entropy-coded steps by what each weight matters")
    way.add_argument("--scheme", help=f"one for all matrices: {', '.join(SCHEMES)} (default: without loss)")
    writing.add_argument("--sound-step", type=positive_number, default=SOUND_STEP,
                         help="of a codec's decoder, with --step (default: %(default)g)")  # fmt: skip
    writing.add_argument("--calibrate", default="", help="folder of recordings, with --step (default: bundled clips)")
    writing.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    writing.set_defaults(command=_compress)
    showing = commands.add_parser("inspect", help="say where the bytes of a .cbw file are")
    showing.add_argument("file", type=Path)
    showing.set_defaults(command=_inspect)
    checking = commands.add_parser("verify", help="decode a .cbw file and compare it with its model")
    checking.add_argument("model", help="what it was made of")
    checking.add_argument("file", type=Path)
    checking.set_defaults(command=_verify)
    return parser


def _compress(options: argparse.Namespace) -> int:
    model, moments = _open(options.model, options.step is not None, options.calibrate)
    choose: Choose = one_scheme(options.scheme or "lossless")
    if options.step is not None:
        sound_step = options.sound_step if "codec" in model.source else None
        choose = spent_by_loss(moments, options.step, sound_step)
    compress(model, choose, options.out, options.overwrite)
    return _inspect(argparse.Namespace(file=options.out))


def _open(name: str, calibrated: bool, clips_dir: str) -> tuple[Model, Mapping[str, Moments]]:
    """Return a model by its name or path, and its moments where they are asked for."""
    codec = name if name in codec_names() else ""
    folder = Path(name)
    if codec or name.removeprefix("lm_") in codec_names():
        folder = data_dir() / "models" / f"{name}_mini"
    file = ModelFile(folder)
    architecture = file.config.get("architecture")
    if not architecture or not folder.is_dir():
        if calibrated:
            raise UnsupportedInput(f"--step needs a model that codecbook runs, and {name} is none; give --scheme.")
        return Model.of_file(folder), {}
    if architecture in ARCHITECTURES:
        loaded = load_lm(folder)
        model = Model.of_lm(loaded, folder)
        if not calibrated:
            return model, {}
        tokens = bundled_tokens(loaded.config["provenance"]["codec"], loaded.model.num_codebooks).train
        return model, lm_moments(loaded.model, [tokens.clip(n)[:_FRAMES] for n in range(0, len(tokens), 8)])
    named = codec or next(n for n in codec_names() if f"{n}_mini".startswith(file.config["provenance"]["recipe"]))
    loaded_codec = load_codec(named, weights=folder)
    model = Model.of_codec(loaded_codec, folder)
    if not calibrated:
        return model, {}
    clips, _ = clip_files.load_clips(clips_dir, limit=_CLIPS)
    rate, channels = loaded_codec.sample_rate_hz, loaded_codec.channels
    return model, codec_moments(loaded_codec, [_cut(convert(clip, rate, channels)) for clip in clips])


def _cut(clip: Clip) -> Clip:
    return Clip(clip.samples[:, : _CLIP_S * clip.sample_rate_hz], clip.sample_rate_hz)


def _inspect(options: argparse.Namespace) -> int:
    table = account(options.file)
    print(f"{'role':12} {'scheme':14} {'values':>12} {'bytes':>12} {'bits/value':>10}")
    for role, scheme in dict.fromkeys(zip(table["role"], table["scheme"], strict=True)):
        part = (table["role"] == role) & (table["scheme"] == scheme)
        values, size = (int(table.loc[part, column].sum()) for column in ("values", "bytes"))
        each = f"{8 * size / values:10.3f}" if values else ""
        print(f"{role or 'directory':12} {scheme:14} {values:12} {size:12} {each}")
    print(f"{table['bytes'].sum()} bytes in all, {bits_per_weight(options.file):.3f} bits per weight")
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Decode every tensor and compare it with the model's; 1 where one that should be the same is not."""
    model, _ = _open(options.model, False, "")
    file, different = CompressedFile(options.file), []
    if file.source.get("sha256") != model.source.get("sha256") or file.count != model.count:
        raise UnsupportedInput(f"{options.file} was made of another model than {options.model}; name the one it is of.")
    print(f"{'tensor':60} {'scheme':14} {'relative error':>14}")
    for record, tensors in file:
        if record.scheme == TIED:
            continue
        of = model.tensors if record.folded and model.tensors else None
        pairs = [(of[n] if of else model.file.read(n), t) for n, t in zip(record.names, tensors, strict=True)]
        exact = record.scheme == AS_IT_IS or SCHEMES[record.scheme].lossless
        if exact:
            same = all(a.dtype == b.dtype and torch.equal(_bits(a), _bits(b)) for a, b in pairs)
            different += [] if same else record.names
            error = "same bits" if same else "DIFFERENT"
        else:
            error = f"{_relative_error(pairs):.5f}"
        print(f"{record.names[0][:57] + '...' * (len(record.names[0]) > 57):60} {record.scheme:14} {error:>14}")
    print(f"{len(file.records)} records, all checksums hold" + f"; different: {', '.join(different)}" * bool(different))
    return 1 if different else 0


def _relative_error(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Return the root of the errors' share of the power, a part of the tensors at a time."""
    power = wrong = 1e-300
    for pair in pairs:
        for a, b in zip(*(tensor.reshape(-1).split(_AT_ONCE) for tensor in pair), strict=True):
            power += float(a.double().square().sum())
            wrong += float((a.double() - b.double()).square().sum())
    return (wrong / power) ** 0.5


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


if __name__ == "__main__":
    sys.exit(main())

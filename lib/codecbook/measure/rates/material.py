"""What rates are measured on: bundled token corpora, a folder of such, or recordings and token files of one's own.

    clips, _ = load_clips("/recordings")
    own = encode_own(clips, {"encodec_24khz": load_codec("encodec_24khz")})
    stream = own.stream("encodec_24khz", "flat", own.parts.all)
    learn(stream, own.parts, StudyRecipe(), folder)

Sides of one's own follow what a clip holds (`codecbook.recordings`), so that no copy of it is on two of them. Where
there are too few clips for that, each is cut in time, and its end is measured on: that judges a model on the voice,
room or piece that it was trained on, which `Material.note` says.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from codecbook.audio import Clip, convert
from codecbook.codecs.base import Codec
from codecbook.codecs.corpus.index import INDEX_NAME, ClipRow, read_index
from codecbook.codecs.registry import load_codec
from codecbook.errors import CodecbookError, MissingWeights, UnsupportedInput
from codecbook.lm.data.corpora import BundledTokens, bundled_tokens
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.data.sources import find_files, read_clips
from codecbook.measure.rates.sides import Material, Sides
from codecbook.measure.rates.streams import TEXT_ORDER
from codecbook.measure.rates.study import ClipParts, split_clips
from codecbook.models.weights import weight_kinds
from codecbook.recordings import content_identity, held_out
from codecbook.tokens import Tokens
from codecbook.tokens.layout import Layout, natural_order
from codecbook.tokens.transcripts import read_transcripts

_TEST_SHARE, _VALIDATION_SHARE = 0.2, 0.1  # expected: of the clips that are measured on, and that weights are chosen on
_CUTS = {"beginning": 0.6, "middle": 0.75, "end": 1.0}
_SOURCE = "own"
_BY_CONTENT = "held out by what a clip holds"


def indexed_material(folder: str | Path | None = None) -> Material:
    """Take the speech of a folder of corpora: clips with transcripts, and the others apart from them.

    Without speech all clips are taken; without transcripts, all in one part. The folder has ``index.json`` and, where
    texts are known, ``transcripts.json``; None takes ``data/tokens``.

    Raises:
        CodecbookError: As `codecbook.codecs.corpus.index.read_index` and `codecbook.measure.rates.study.split_clips`.
    """
    index = read_index(folder)
    path = index.folder / "transcripts.json"
    texts = read_transcripts(path) if path.is_file() else {}
    rows = [row for row in index.clips.values() if row.domain == "speech"] or list(index.clips.values())
    spoken, others = ([row for row in rows if (row.clip in texts) is known] for known in (True, False))
    known = {row.clip: row for row in rows}
    if not spoken:
        return Material(known, split_clips(others), index=index)
    return Material(known, split_clips(spoken), texts, split_clips(others) if others else None, index)


def named(tokens_dir: str, clips_dir: str) -> str:
    """Return what a notebook's parameters name instead of the bundled data, in words; empty where they name nothing.

    Raises:
        UnsupportedInput: They name both tokens and recordings.
    """
    if tokens_dir and clips_dir:
        raise UnsupportedInput(f"Both tokens_dir={tokens_dir!r} and clips_dir={clips_dir!r} are given; take one.")
    return f"recordings in {clips_dir}" if clips_dir else f"tokens in {tokens_dir}" if tokens_dir else ""


def load_available(names: Iterable[str]) -> tuple[dict[str, Codec], dict[str, str]]:
    """Load codecs with bundled weights, or else pretrained ones; ``"text"``, which is no codec, is passed over.

    Returns:
        By name, those whose weights are at hand; and of the others, why not.

    Raises:
        UnsupportedInput: A name that the registry does not know.
    """
    codecs: dict[str, Codec] = {}
    absent: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if name == TEXT_ORDER:
            continue
        try:
            codecs[name] = load_codec(name, "bundled" if "bundled" in weight_kinds(name) else "pretrained")
        except MissingWeights as error:
            absent[name] = str(error)
    return codecs, absent


def _encode_clips(
    clips: Sequence[Clip], codec: Codec, num_codebooks: int, say: Callable[[str], None]
) -> tuple[dict[str, Tokens], list[tuple[str, str]]]:
    """Return tokens by clip, and the clips that the codec cannot take, with the reason."""
    tokens: dict[str, Tokens] = {}
    skipped: list[tuple[str, str]] = []
    for number, clip in enumerate(clips, 1):
        say(f"{codec.name}: clip {number}/{len(clips)}")
        try:
            tokens[clip.name] = codec.encode(
                convert(clip, codec.sample_rate_hz, codec.channels), num_codebooks=num_codebooks
            )
        except CodecbookError as error:
            skipped.append((f"{codec.name}: {clip.name}", str(error)))
    return tokens, skipped


def encode_own(
    clips: Sequence[Clip],
    codecs: Mapping[str, Codec],
    num_codebooks: int | None = None,
    say: Callable[[str], None] = print,
) -> Material:
    """Encode clips, of any rate and number of channels, with several codecs and choose their sides.

    A clip that one of the codecs cannot take is left out of all of them, so that all are measured on the same clips.

    Names of clips differ; codecs are by the name that their tokens get. Of a codec's codebooks the leading
    `num_codebooks` are taken, or all; None takes as many as its bundled tokens have, or up to 8. `say` takes a line for
    each clip.

    Raises:
        UnsupportedInput: No clip that every codec takes, or too few frames to cut.
    """
    tokens: dict[str, dict[str, Tokens]] = {}
    skipped: list[tuple[str, str]] = []
    for name, codec in codecs.items():
        wanted = num_codebooks
        if wanted is None:
            bundled = read_index().corpora.get(codec.name)
            wanted = 8 if bundled is None else bundled.num_codebooks
        count = min(wanted, len(codec.codebook_sizes))
        tokens[name], left = _encode_clips(clips, codec, count, say)
        skipped += left
    identities = {clip.name: content_identity(clip.samples) for clip in clips}
    return _with_sides(tokens, identities, {clip.name: clip.domain for clip in clips}, skipped)


def read_own(path: str | Path, num_codebooks: int | None = None) -> Material:
    """Read token files of one or several codecs, one or all below a folder, and choose their sides.

    They are NPQ, with the companion that an export writes beside it, Parquet, or Bark's NPZ. Tokens that do not name
    their codec are of ``"tokens"``. The leading `num_codebooks` are taken, or all.

    Raises:
        UnsupportedInput: No such files, clips that no two codecs share, or too few frames to cut.
        CorruptInput: A damaged file.
    """
    tokens: dict[str, dict[str, Tokens]] = {}
    for clip, of_clip in read_clips(find_files([path]), bark=True):
        known = tokens.setdefault(of_clip.codec or "tokens", {})
        if clip in known:
            raise UnsupportedInput(f"Two clips of {path} are named {clip!r}; give each a name of its own.")
        known[clip] = of_clip if num_codebooks is None else of_clip.leading(num_codebooks)
    first = next(iter(tokens.values()))
    identities = {clip: content_identity(of_clip.codes[0]) for clip, of_clip in first.items()}
    return _with_sides(tokens, identities, dict.fromkeys(first, "unknown"))


def bundled_sides(tokens: BundledTokens) -> Sides:
    """Return the sides of a codec's bundled tokens; errors as for `codecbook.measure.rates.study.split_clips`.

    Tests are of speakers and pieces that nothing was trained on, where there are some; of each speaker there is one.
    """
    new, known = tokens.by_novelty()
    test = new or tokens.held_out
    parts = split_clips(row for row in tokens.clips if row.split == "train" or row.clip in test.clips)
    train, validation = map(tokens.train.subset, (parts.train, parts.validation))
    return Sides(train, validation, test, known if new else None)


def token_sides(path: str | Path, codec: str, num_codebooks: int | None = None) -> Sides:
    """Return the sides of tokens of one codec: of a folder of corpora, whose split is kept, or of files (`read_own`).

    Raises:
        CodecbookError: As `codecbook.lm.data.corpora.bundled_tokens` and `read_own`.
    """
    if (Path(path) / INDEX_NAME).is_file():
        return bundled_sides(bundled_tokens(codec, num_codebooks=num_codebooks, folder=path))
    own = read_own(path, num_codebooks)
    if codec not in own.tokens and len(own.tokens) > 1:
        raise UnsupportedInput(f"{path} holds tokens of {', '.join(own.tokens)}, and not of {codec}; choose one.")
    return own.sides(codec if codec in own.tokens else next(iter(own.tokens)))


def measured_on_own(
    bundled: BundledTokens, clips: Sequence[Clip], codec: Codec, say: Callable[[str], None] = print
) -> tuple[BundledTokens, list[tuple[str, str]]]:
    """Return the bundled tokens of a codec with clips of one's own in place of those that are held out.

    Clips have names that differ, and any rate and number of channels; those that the codec cannot take are returned
    with the reason. `say` takes a line for each.

    Raises:
        UnsupportedInput: It takes none of them, or has other weights.
    """
    if codec.weights.sha256 != bundled.entry.codec_weights_sha256:
        raise UnsupportedInput(f"The bundled tokens are of other weights than {codec.weights}; load those.")
    tokens, skipped = _encode_clips(clips, codec, bundled.entry.num_codebooks, say)
    if not tokens:
        raise UnsupportedInput(f"{codec.name} takes none of {len(clips)} clips; {skipped[0][1] if skipped else ''}")
    rows = tuple(
        ClipRow(clip.name, _SOURCE, clip.domain, "", "held_out", tokens[clip.name].duration_s)
        for clip in clips
        if clip.name in tokens
    )
    trained_on = tuple(row for row in bundled.clips if row.split == "train")
    corpus = Corpus.from_tokens(tokens, bundled.layout.order)
    return replace(bundled, held_out=corpus, clips=trained_on + rows), skipped


def cut(tokens: Tokens) -> dict[str, Tokens]:
    """Cut the tokens of a clip in time into a beginning, a middle and an end, each of a frame or more.

    Raises:
        UnsupportedInput: Fewer frames than pieces.
    """
    layout = Layout(natural_order(tokens), tokens.format)
    rows = layout.to_rows(tokens)
    pieces = len(_CUTS)
    if len(rows) < pieces:
        raise UnsupportedInput(f"A clip of {len(rows)} frames cannot be cut into {pieces} pieces; give a longer one.")
    # every piece keeps a frame at least
    stops = [
        min(max(round(end * len(rows)), i + 1), len(rows) - pieces + i + 1) for i, end in enumerate(_CUTS.values())
    ]
    return dict(zip(_CUTS, map(layout.to_tokens, np.split(rows, stops[:-1])), strict=True))


def _with_sides(
    tokens: Mapping[str, Mapping[str, Tokens]],
    identities: Mapping[str, str],
    domains: Mapping[str, str],
    skipped: Sequence[tuple[str, str]] = (),
) -> Material:
    """Keep the clips that all codecs have, and choose their sides."""
    shared = [clip for clip in identities if tokens and all(clip in of_codec for of_codec in tokens.values())]
    if not shared:
        reasons = "; ".join(f"{what}: {why}" for what, why in skipped[:3]) or "there are none"
        raise UnsupportedInput(f"No clip has tokens of {', '.join(tokens) or 'any codec'} ({reasons}).")
    kept = {name: {clip: of_codec[clip] for clip in shared} for name, of_codec in tokens.items()}
    if len({identities[clip] for clip in shared}) < len(_CUTS):
        note = "too few clips to hold some out: each is cut, and its end is measured on"
        kept = {
            name: {f"{clip}, {place}": piece for clip, whole in of_codec.items() for place, piece in cut(whole).items()}
            for name, of_codec in kept.items()
        }  # fmt: skip
        parts = ClipParts(*(tuple(f"{clip}, {place}" for clip in shared) for place in _CUTS))
        domains = {f"{clip}, {place}": domains[clip] for clip in shared for place in _CUTS}
    else:
        note = _BY_CONTENT
        contents = {identities[clip] for clip in shared}
        test = held_out(contents, _TEST_SHARE)
        # of what the first rule leaves, a place below the sum of both shares
        validation = held_out(contents - test, _TEST_SHARE + _VALIDATION_SHARE)
        sides = (contents - test - validation, validation, test)
        parts = ClipParts(*(tuple(clip for clip in shared if identities[clip] in side) for side in sides))
    first = next(iter(kept.values()))
    rows = {
        clip: ClipRow(clip, _SOURCE, domains[clip], "", split, first[clip].duration_s)
        for split, names in (("train", parts.train + parts.validation), ("held_out", parts.test))
        for clip in names
    }
    return Material(rows, parts, tokens=kept, skipped=tuple(skipped), note=note)

"""What is heard where codes are lost: latents that lead from one end of a gap to the other, and what they compete with.

A decoder takes a latent per frame, the sum of the frame's codewords. In the place of a lost frame goes

- ``interpolate``: a latent on the line between those before and after the gap; ``hold``: the one before;
- ``lm``: those of codes drawn from a language model, of several draws the one after which the codes behind the gap are
  likeliest; ``lm_first``: the first draw; ``lm_mean``: the mean of all, faded into the line;
- ``pitch``: that of the line, and in the waveform the pitch periods of both ends; ``mix``: `pitch` in gaps up to
  `PITCH_S`, else `interpolate`;
- ``silence``: anything, and no sound.

Where only fine codebooks are lost, their codewords are left out of the sum. What a decoder makes of one latent for long
is a drone: `HELD_S` from the ends of a gap it fades, for `FADED_S`, to silence. (Sooner costs STOI: at 400 ms 0.83
becomes 0.81 with the level held for 60 ms, 0.80 with a fade from 100 to 200 ms.) From twice both on, an end has no say
in what the other sounds like, and language model and pitch have none at all.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from codecbook.audio import Clip
from codecbook.codecs import Codec
from codecbook.coding.infill import AHEAD_ROWS, draw_rows, repeat_pitch
from codecbook.coding.stream import models as stream_models
from codecbook.coding.stream.writer import stream_order
from codecbook.errors import UnsupportedInput
from codecbook.lm.exact.spec import ExactLM
from codecbook.tokens import Tokens
from codecbook.tokens.layout import Layout

CONCEALMENTS = ("silence", "hold", "interpolate", "pitch", "lm", "lm_first", "lm_mean", "mix")
HELD_S = 0.2
"""Seconds from either end of a gap in which its sound keeps its level."""
FADED_S = 0.2
"""Seconds after them in which it fades to silence."""
PITCH_S = 0.04
"""Longest gap that `mix` fills with pitch periods."""
_Gaps = list[tuple[int, int]]  # first rows that are lost, and first after them that are not
_AROUND_S = 0.1  # of the waveform, in which these are looked for


def conceal(
    codec: Codec,
    tokens: Tokens,
    lost: np.ndarray,
    method: str = "interpolate",
    lm: ExactLM | None = None,
    seed: int = 0,
) -> Clip:
    """Decode tokens of which some are lost.

    Args:
        codec: Which made them.
        tokens: With any code in the place of those that are lost.
        lost: bool ``[K, T]``, per codebook and frame (of the slowest codebook, where rates differ). A frame without
            codebook 0 is lost whole; of others, codebooks from the first lost one on are zero vectors.
        method: One of `CONCEALMENTS`.
        lm: An exact language model of these codes; None takes the bundled one of the codec.
        seed: Of what is drawn from it.

    Raises:
        UnsupportedInput: Another method, `lost` of another shape, a language model of other codes, or as
            `Codec.decode`.
        MissingWeights: There is no language model, and the method wants one.
        CorruptInput: As `Codec.decode`.
    """
    check_method(method)
    lost, shape = np.asarray(lost), (tokens.num_codebooks, len(tokens.codes[0]))
    if lost.dtype != bool or lost.shape != shape:
        raise UnsupportedInput(f"Give what is lost as bool {list(shape)}, not {lost.dtype} {list(lost.shape)}.")
    pieces = list(concealed_pieces(codec, tokens, lost, method, lm, seed))
    return Clip(np.concatenate(pieces, axis=1), codec.sample_rate_hz, name=codec.name)


def mended_latents(codec: Codec, tokens: Tokens, lost: np.ndarray, method: str) -> np.ndarray:
    """Return the latents ``[D, T]`` that `conceal` gives the decoder by ``"hold"`` or ``"interpolate"``."""
    levels = np.where(lost.any(axis=0), lost.argmax(axis=0), len(lost))
    return Mender(codec, tokens.codes, levels, _gaps(levels == 0), method)(codec.latents(tokens.codes), 0)


def check_method(method: str) -> None:
    """Refuse what is not one of `CONCEALMENTS`."""
    if method not in CONCEALMENTS:
        raise UnsupportedInput(f"There is no concealment {method!r}; choose from {', '.join(CONCEALMENTS)}.")


def concealed_pieces(
    codec: Codec, tokens: Tokens, lost: np.ndarray, method: str, lm: ExactLM | None = None, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield the samples of `conceal`, whose arguments these are, in pieces, float32 ``[C, S]``.

    With pitch periods, all in one piece.
    """
    levels = np.where(lost.any(axis=0), lost.argmax(axis=0), len(lost))
    gaps, place, is_silent = _gaps(levels == 0), 0, method == "silence"
    spans = [_span(codec, tokens, gap, len(levels)) for gap in gaps]
    is_needed = ((levels > 0) & (levels < len(lost))).any() or (gaps and not is_silent)
    mend = Mender(codec, tokens.codes, levels, gaps, method) if is_needed else None
    if mend and method.startswith("lm"):
        mend.drawn = _drawn(codec, tokens, levels, gaps, method, lm, seed)
    if not is_silent:
        tokens = _with_scales(tokens, levels > 0)
    pieces = codec.decode_pieces(tokens, mend)
    if spans and method in ("pitch", "mix"):
        longest_s = PITCH_S if method == "mix" else 2 * (HELD_S + FADED_S)
        pieces = iter([_with_pitch(np.concatenate(list(pieces), axis=1), spans, codec.sample_rate_hz, longest_s)])
    for piece in pieces:
        end = place + piece.shape[1]
        hit = [span for span in spans if span[0] < end and span[1] > place]
        piece = piece.copy() if hit else piece
        for a, b in hit:
            at = np.arange(max(a, place), min(b, end))
            piece[:, at - place] *= 0.0 if is_silent else _gain(at, a, b, codec.sample_rate_hz)
        yield piece
        place = end


class Mender:
    """A `codecbook.codecs.base.Mend` that puts others in the place of the latents of lost frames.

    A row are the frames of one code of the slowest codebook: one frame, where rates agree. ``levels``, int ``[T]``,
    says how many codebooks of a row are there.
    """

    def __init__(self, codec: Codec, codes: Sequence[np.ndarray], levels: np.ndarray, gaps: _Gaps, method: str) -> None:
        self._codec, self._codes, self._levels = codec, codes, levels
        self._gaps = [] if method == "silence" else gaps
        self._is_held, self._is_mean = method == "hold", method == "lm_mean"
        self._frames = round(codec.frame_rates_hz[-1] / codec.frame_rates_hz[0])  # in a row
        self._longest = round(2 * (HELD_S + FADED_S) * codec.frame_rates_hz[-1])
        self.drawn: dict[int, np.ndarray] = {}  # latents [D, T] of gaps, by their first row

    def __call__(self, latents: np.ndarray, first: int) -> np.ndarray:
        """Return latents ``[D, T]`` mended, whose first frame is number `first`."""
        n, end = self._frames, first + latents.shape[1]
        rows = np.arange(first // n, -(-end // n))
        levels = self._levels[rows]
        if levels.min() == len(self._codes):
            return latents
        latents = latents.copy()
        for count in set(levels.tolist()) - {0, len(self._codes)}:
            some = rows[levels == count]
            at = (some[:, None] * n + np.arange(n)).ravel() - first
            inside = (at >= 0) & (at < latents.shape[1])
            latents[:, at[inside]] = self.known(some, count)[:, inside]
        for a, b in self._gaps:
            at = np.arange(max(a * n, first), min(b * n, end))
            if at.size:
                latents[:, at - first] = self.between(a, b, at)
        return latents

    def known(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Return the latents ``[D, T]`` of rows, of which `count` codebooks are there."""
        T = len(self._levels)
        return self._codec.latents([level.reshape(T, -1)[rows].ravel() for level in self._codes[:count]])

    def between(self, a: int, b: int, at: np.ndarray) -> np.ndarray:
        """Return latents ``[D, N]`` for frames `at` of the lost rows `a` to `b`."""
        start, end = a * self._frames, b * self._frames
        drawn = self.drawn[a][:, at - start] if a in self.drawn else None
        if drawn is not None and not self._is_mean:
            return drawn
        if a == 0 and b == len(self._levels):
            return np.zeros((self.known(np.array([0]), 1).shape[0], len(at)), dtype=np.float32)
        ends = [self.known(np.array([row]), self._levels[row]) for row in (a - 1, b) if 0 <= row < len(self._levels)]
        before, after = ends[0][:, -1:], ends[-1][:, :1]
        share = (at - start + 1) / (end - start + 1)  # of what comes after
        if a == 0 or b == len(self._levels) or self._is_held:
            share = np.full(len(at), float(a == 0))
        elif end - start > self._longest:
            share = (share > 0.5).astype(float)
        line = before * (1 - share) + after * share
        return (line if drawn is None else drawn * (1 - share) + line * share).astype(np.float32)


def _drawn(
    codec: Codec, tokens: Tokens, levels: np.ndarray, gaps: _Gaps, method: str, lm: ExactLM | None, seed: int
) -> dict[int, np.ndarray]:
    """Return latents of codes drawn for gaps that are not long, by first row; of others, the line is taken."""
    model = stream_models.default_lm(codec).model if lm is None else lm
    layout = Layout(stream_order(tokens.format, model), tokens.format)
    rows = layout.to_rows(tokens)
    drawn = {}
    for a, b in gaps:
        if b - a > min(2 * (HELD_S + FADED_S) * codec.frame_rates_hz[0], model.config.window_frames - AHEAD_ROWS - 1):
            continue
        samples, bits = draw_rows(model, rows, levels == len(tokens.codes), (a, b), seed=seed)  # [N, T, K]
        if method != "lm_mean":
            samples = samples[[0 if method == "lm_first" else int(bits.argmin())]]
        codes = layout.to_tokens(samples.reshape(-1, samples.shape[2])).codes
        latents = codec.latents(codes)
        drawn[a] = latents.reshape(len(latents), len(samples), -1).mean(axis=1)
    return drawn


def _with_pitch(
    samples: np.ndarray, spans: list[tuple[float, float]], sample_rate_hz: int, longest_s: float
) -> np.ndarray:
    """Put pitch periods in the place of gaps up to a length; those at either end of the audio are left as they are."""
    samples, around = samples.copy(), round(_AROUND_S * sample_rate_hz)
    for a, b in spans:
        if b - a <= longest_s * sample_rate_hz:
            before, after = samples[:, max(0, int(a) - around) : int(a)], samples[:, int(b) : int(b) + around]
            samples[:, int(a) : int(b)] = repeat_pitch(before, after, int(b - a), sample_rate_hz)
    return samples


def _gaps(lost: np.ndarray) -> _Gaps:
    """Return where runs of True begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], lost, [False])).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _span(codec: Codec, tokens: Tokens, gap: tuple[int, int], num_rows: int) -> tuple[float, float]:
    """Return the samples of lost rows; those at either end of the tokens have no end."""
    hop, stride = codec.sample_rate_hz / codec.frame_rates_hz[0], 0
    starts = np.zeros(1, dtype=int)
    if codec.seams == "segments":
        starts, stride = np.cumsum((0, *tokens.segment_frames))[:-1], int(codec.module.segment_stride)
    ends = []
    for row in gap:
        segment = int(np.searchsorted(starts, row, side="right")) - 1
        ends.append(round(segment * stride + (row - starts[segment]) * hop))
    return (-math.inf if gap[0] == 0 else ends[0]), (math.inf if gap[1] == num_rows else ends[1])


def _gain(at: np.ndarray, start: float, end: float, sample_rate_hz: int) -> np.ndarray:
    """Return the gain at samples of a gap, by their distance from its nearer end."""
    distance_s = np.minimum(at - start, end - at) / sample_rate_hz
    share = np.clip((distance_s - HELD_S) / FADED_S, 0.0, 1.0)
    return (0.5 + 0.5 * np.cos(np.pi * share)).astype(np.float32)


def _with_scales(tokens: Tokens, there: np.ndarray) -> Tokens:
    """Give a codec's segments of which nothing is there a scale between those of their neighbours, as levels go."""
    if len(tokens.scales) != len(tokens.segment_frames):
        return tokens
    starts = np.cumsum((0, *tokens.segment_frames))[:-1]
    known = np.flatnonzero(np.add.reduceat(there, starts)) if len(starts) else starts
    if len(known) in (0, len(starts)):
        return tokens
    logs = np.log(np.maximum(np.array(tokens.scales)[known], 1e-8))
    scales = np.exp(np.interp(np.arange(len(starts)), known, logs))
    scales[known] = np.array(tokens.scales)[known]
    return replace(tokens, scales=tuple(scales.tolist()))

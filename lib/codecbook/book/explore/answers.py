"""What the exploration cells of the notebooks ask: functions that return controls, and what answers a choice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from codecbook.audio import Clip, convert
from codecbook.book import tables
from codecbook.book.explore import Answer, Controls
from codecbook.book.figures.damage import OUTCOME_WORDS
from codecbook.book.figures.pixels import interval_map, pixel_map, state_map
from codecbook.codecs import Codec, load_codec
from codecbook.coding import packets
from codecbook.coding.conceal import conceal
from codecbook.coding.exact.frames import encode_frames
from codecbook.coding.packets import PacketFormat
from codecbook.lm.exact.spec import UNITS_PER_BIT, ExactLM
from codecbook.lm.token_lm import TokenLM
from codecbook.measure.coding_steps import trace_symbol
from codecbook.measure.quality import evaluate
from codecbook.measure.rates.coder_costs import float_logits
from codecbook.probes.corruption.channels import gilbert_elliott, independent
from codecbook.probes.corruption.damage import Meter
from codecbook.probes.corruption.inject import draw
from codecbook.probes.corruption.targets import Target
from codecbook.probes.determinism.consequences import decode_codes, decode_with_changed_logit
from codecbook.probes.weights.gates import changed_tokens, token_match
from codecbook.tokens import Tokens

Question = tuple[Controls, Callable[..., Answer]]
_LISTED = 5  # likeliest codes that a table shows


def of_codecs(codecs: Mapping[str, Codec], clips: Sequence[Clip], seconds: float) -> Question:
    """Ask what a codec makes of the beginning of a clip with some of its codebooks."""
    by_name = {clip.name: clip for clip in clips}

    @cache
    def coded(codec: str, clip: str) -> tuple[Clip, Tokens]:
        coder, whole = codecs[codec], by_name[clip]
        beginning = replace(whole, samples=whole.samples[:, : round(seconds * whole.sample_rate_hz)])
        original = convert(beginning, coder.sample_rate_hz, coder.channels)
        return original, coder.encode(original)

    def answer(codec: str, clip: str, codebooks: int) -> Answer:
        coder, (original, tokens) = codecs[codec], coded(codec, clip)
        tokens, heard = tokens.leading(codebooks), {"original": original}
        values = {"bitrate_kbps": coder.bitrate_kbps(codebooks), "tokens_per_s": sum(tokens.frame_rates_hz)}
        if coder.decodes:
            heard["decoded"] = coder.decode(tokens)
            values |= evaluate(original, heard["decoded"], ("si_sdr_db", "log_mel_distance_db"))[0]
        places = np.arange(longest := max(map(len, tokens.codes)))
        shares = [
            codes[places * len(codes) // longest] / size
            for codes, size in zip(tokens.codes, tokens.codebook_sizes, strict=True)
        ]
        picture = pixel_map(shares, f"Codes of {codec}: codebooks in rows, the coarsest on top, time to the right.")
        return Answer(values, picture, heard)

    def counts(codec: str, clip: str) -> dict[str, int]:
        coder = codecs[codec]
        return {f"{n} ({coder.bitrate_kbps(n):.3g} kbps)": n for n in range(1, len(coder.codebook_sizes) + 1)}

    return {
        "codec": {name: name for name in codecs},
        "clip": {name: name for name in by_name},
        "codebooks": counts,
    }, answer


def of_positions(model: TokenLM, codes: np.ndarray) -> Question:
    """Ask what a language model says of each place of a clip ``[T, K]`` before its code comes."""
    bits = -log_softmax(float_logits(model, codes).astype(np.float64), axis=1) / np.log(2)  # [T, V, K]
    T, V, K = bits.shape
    costs = np.take_along_axis(bits, codes[:, None].astype(np.int64), axis=1)[:, 0]  # [T, K]
    most_bits = 1.5 * np.log2(V)

    def answer(frame: int, codebook: int) -> Answer:
        column, code = bits[frame, :, codebook], int(codes[frame, codebook])
        order = np.argsort(column, kind="stable")
        rank = int(np.flatnonzero(order == code)[0]) + 1
        listed = list(dict.fromkeys([*order[:_LISTED].tolist(), code]))
        table = pd.DataFrame(
            {"code": listed, "probability_percent": 100 * 0.5 ** column[listed], "bits": column[listed],
             "came": [v == code for v in listed]}
        )  # fmt: skip
        values = {
            "code_that_came": code, "rank": rank, "cost_bits": float(column[code]), "raw_bits": float(np.log2(V)),
            "expected_bits": float((0.5**column * column).sum()), "frame_in_all_bits": float(costs[frame].sum()),
        }  # fmt: skip
        chances = interval_map(
            0.5 ** column[order], rank - 1, "All codes, the likeliest first, as wide as they are likely"
        )
        alt = f"What each token costs, from 0 bits (dark) to {most_bits:.0f} (light); codebooks in rows."
        where = pixel_map(costs.T / most_bits, alt, (frame, codebook))
        return Answer(values, where + chances + tables.to_html(table, "The likeliest codes, and the one that came"))

    return _places(T, K), answer


def of_intervals(model: ExactLM, codes: np.ndarray) -> Question:
    """Ask which interval of the range coder each token of a clip ``[T, K]`` takes."""

    def answer(frame: int, codebook: int) -> Answer:
        symbol = trace_symbol(model, codes, frame, codebook)
        order = np.argsort(-symbol.logits, kind="stable")[:_LISTED]
        listed = list(dict.fromkeys([*order.tolist(), symbol.code]))
        counts = symbol.counts[listed]
        table = pd.DataFrame(
            {"code": listed, "logit, 2^-8 bit": symbol.logits[listed], "counts of 2^20": counts,
             "probability_percent": 100 * counts / symbol.total, "bits": np.log2(symbol.total / counts),
             "coded": [v == symbol.code for v in listed]}
        )  # fmt: skip
        values = {
            "code": symbol.code, "cost_bits": symbol.bits, "interval_of_2^20": f"{symbol.low} to {symbol.high}",
            "range_before": f"{symbol.before.range:014x}", "range_after": f"{symbol.after.range:014x}",
            "bytes_that_went_out": symbol.after.num_bytes - symbol.before.num_bytes,
        }  # fmt: skip
        picture = interval_map(symbol.counts, symbol.code, "All codes in their order, as wide as their counts")
        return Answer(values, picture + tables.to_html(table, "The likeliest codes, and the one that was coded"))

    return _places(*codes.shape), answer


def _places(num_frames: int, num_codebooks: int) -> Controls:
    counts = {"frame": num_frames, "codebook": num_codebooks}
    return {name: {str(n): n for n in range(count)} for name, count in counts.items()}


def of_changed_logits(model: ExactLM, codes: np.ndarray, codec: Codec) -> Question:
    """Ask what a decoder makes of a clip ``[T, K]`` if one of its logits is not the encoder's."""
    codes, payload = codes.astype(np.int64), encode_frames(model, codes).payload
    sent = decode_codes(codes, codec)

    def answer(frame: int, logit_of: Callable[[np.ndarray, int], int], delta: int) -> Answer:
        symbol = trace_symbol(model, codes, frame, 0)
        changed = logit_of(symbol.logits, symbol.code)
        found = decode_with_changed_logit(model, payload, len(codes), (frame, 0), changed, delta)
        wrong = found.codes != codes
        first = f"{wrong.any(axis=1).argmax()}" if wrong.any() else "none"
        values = {
            "code": changed, "ends_of_intervals_moved": f"{found.ends_moved} of {len(symbol.logits)}",
            "of_them_the_sent_code's": found.is_hit,
            "first_wrong_frame": first, "wrong_tokens": f"{wrong.sum()} of {wrong.size}",
            "the_decoder": "notices nothing" if not found.error else "notices at the end"
            if found.num_frames == len(codes) else f"breaks off after {found.num_frames} frames",
        }  # fmt: skip
        picture = state_map(wrong.T.astype(int), "Tokens as decoded: grey is right, orange is wrong.", (frame, 0))
        heard = {"as decoded": decode_codes(found.codes, codec)} if wrong.any() else {}
        return Answer(values, picture, {"as sent": sent, **heard})

    deltas = sorted(sign * step for sign in (-1, 1) for step in (1, 4, 16, 64, 256, 1024))
    logits = {
        "the code that was sent": lambda _row, code: code,
        "the likeliest other code": lambda row, code: int(np.argsort(-row, kind="stable")[int(row.argmax() == code)]),
        "the least likely code": lambda row, _code: int(row.argmin()),
    }
    frames = {str(t): t for t in range(len(codes) // 10, len(codes) // 2 + 1)}
    shares = {f"{'+' if d > 0 else '−'}{Fraction(abs(d), UNITS_PER_BIT)} bit": d for d in deltas}
    return {"frame": frames, "logit_of": logits, "delta": shares}, answer


def of_damage(targets: Mapping[str, Target], codec: Codec, tokens: Tokens, known: PacketFormat, seed: int) -> Question:
    """Ask what is lost of tokens as files in which bits flip, and as packets that do not come, and how that sounds.

    `targets` hold these tokens.
    """
    meter, sent, T = cache(lambda name: Meter(targets[name], codec)), packets.send(tokens, known), len(tokens.codes[0])
    clean = codec.decode(tokens)

    def concealed(lost: np.ndarray, sound: Callable[[str], Clip | None]) -> dict[str, Clip]:
        methods = ("silence", "hold", "interpolate", "pitch") if lost.any() else ("as decoded",)
        tried = {method: sound(method if lost.any() else "hold") for method in methods}
        return {method: clip for method, clip in tried.items() if clip is not None}

    def of_bits(name: str, rate: float) -> Answer:
        target = targets[name]
        heard = meter(name).hear(draw(target.data, "flip", seed, places=target.parts["body"], rate=rate), listen=False)
        clips = concealed(heard.lost, lambda method: meter(name).sound(heard.read, method))
        states = np.where(heard.wrong, 1, 2 * heard.lost[:, None].astype(int))
        return shown(states.T, OUTCOME_WORDS[heard.cost.outcome], clips)

    def of_packets(burst: float, rate: float) -> Answer:
        gone = independent(len(sent), rate, seed) if burst == 1 else gilbert_elliott(len(sent), rate, burst, seed)
        got = packets.receive([sent[i] for i in np.flatnonzero(~gone)], known, T)
        lossy = replace(tokens, codes=got.tokens.codes)
        clips = concealed(got.lost, lambda method: conceal(codec, lossy, got.lost, method))
        return shown(2 * got.lost.astype(int), f"{gone.sum()} of {len(sent)} packets did not come", clips)

    def shown(states: np.ndarray, outcome: str, clips: Mapping[str, Clip]) -> Answer:
        values = {
            "outcome": outcome, "frames_lost": f"{(states == 2).all(axis=0).sum()} of {states.shape[1]}",
            "tokens_lost": int((states == 2).sum()), "tokens_wrong_unnoticed": int((states == 1).sum()),
        }  # fmt: skip
        picture = state_map(states, "Tokens: grey is right, blue is known to be lost, orange is wrong and not noticed.")
        return Answer(values, picture, {"undamaged": clean, **clips})

    kinds = {f"bits flip in {name}": partial(of_bits, name) for name in targets}
    kinds |= {"packets lost": partial(of_packets, 1.0), "packets lost in bursts of 3": partial(of_packets, 3.0)}
    rates = {f"{100 * rate:g} %": rate for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3)}
    return {"damage": kinds, "share_hit": rates}, lambda damage, share_hit: damage(share_hit)


def of_weights(codec: Codec, files: Mapping[str, Path], clip: Clip) -> Question:
    """Ask what a codec's weights in files of several sizes make of a clip; the files are listed by size."""
    whole, loaded = codec.encode(clip), cache(lambda path: load_codec(codec.name, weights=path))
    heard, paths = codec.decode(whole), list(files.values())

    def answer(bits_per_weight: int) -> Answer:
        path = paths[bits_per_weight]
        small = loaded(path)
        found = small.encode(clip)
        changed, total = changed_tokens([whole], [found])
        decoded = small.decode(found)
        values = {
            "file": path.stem, "file_mb": path.stat().st_size / 1e6, "equal_tokens": token_match([whole], [found]).mean,
            "equal_tokens_of_8_codebooks": token_match([whole], [found], 8).mean,
            "changed_tokens": f"{changed} of {total}", **evaluate(clip, decoded, ("si_sdr_db",))[0],
        }  # fmt: skip
        states = np.stack([one != other for one, other in zip(whole.codes, found.codes, strict=True)]).astype(int)
        picture = state_map(states, "Tokens: grey is as with all bits, orange is another; codebooks in rows.")
        return Answer(values, picture, {"the clip": clip, "weights as they are": heard, "this file": decoded})

    return {"bits_per_weight": {label: place for place, label in enumerate(files)}}, answer

"""Sizes of streams: what is counted is what the stream holds."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from codecbook.codecs.corpus.index import ClipRow
from codecbook.coding import default_lm
from codecbook.coding.exact.frames import decode_frames, encode_frames
from codecbook.coding.stream import encode_tokens
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.measure.rates.stream_costs import (
    bandwidth_sizes,
    end_to_end,
    framing_bytes,
    gain_table,
    groups_and_units,
    spread_clips,
    stream_sizes,
    train_exact,
)
from codecbook.measure.statistics import Interval
from codecbook.paths import data_dir
from codecbook.tokens import Tokens
from codecbook.tokens.text import TextTokens

pytestmark = pytest.mark.usefixtures("one_thread")


def test_sizes_are_those_of_the_streams(small_exact: ExactLM, small_clips: Corpus) -> None:
    labels = {"clip 0": ("speech", "ann"), "clip 1": ("music", "clip 1")}
    sizes = stream_sizes(small_clips, small_exact, "name", labels)
    assert sizes[["group", "unit"]].to_numpy().tolist() == [["speech", "ann"], ["music", "clip 1"], ["", "clip 2"]]
    assert small_clips.layout is not None
    for i, row in enumerate(sizes.to_dict("records")):
        codes = small_clips.clip(i)
        stream = encode_tokens(small_clips.layout.to_tokens(codes), small_exact, lm_name="name")
        assert row["payload_bits"] == 8 * len(encode_frames(small_exact, codes).payload)
        assert row["stream_bits"] == 8 * len(stream)
        assert row["raw_stream_bits"] == 8 * len(encode_tokens(small_clips.layout.to_tokens(codes)))
        assert (row["tokens"], row["raw_bits"], row["segments"]) == (codes.size, codes.size * 6.0, 1)
        assert row["duration_s"] == len(codes) / 50


def test_raw_streams_have_raw_payloads(small_clips: Corpus) -> None:
    sizes = stream_sizes(small_clips, None, "", {})
    np.testing.assert_array_equal(sizes["payload_bits"], np.ceil(sizes["raw_bits"] / 8) * 8)
    assert (gain_table(sizes.assign(codec="x"), ["codec"])["gain_percent_high"] == 0).all(), "nothing is saved"


def test_gains_are_ratios_of_sums_over_units() -> None:
    sizes = pd.DataFrame(
        {"codec": ["a", "a", "a", "b"], "unit": ["x", "x", "y", "x"], "duration_s": [1.0, 1.0, 2.0, 2.0],
         "raw_bits": [1000.0, 1000.0, 2000.0, 500.0], "payload_bits": [800.0, 500.0, 1100.0, 600.0],
         "raw_stream_bits": [1500.0, 1500.0, 2500.0, 1000.0], "stream_bits": [1400.0, 1100.0, 1700.0, 1200.0]}
    )  # fmt: skip
    gains = gain_table(sizes, ["codec"]).set_index("codec")
    assert gains.loc["a", ["clips", "units"]].tolist() == [3, 2]
    assert gains.loc["a", "payload_gain_percent"] == pytest.approx(40.0)
    assert gains.loc["a", "gain_percent"] == pytest.approx(100 * 1300 / 5500)
    assert gains.loc["a", "payload_kbps"] == pytest.approx(0.6)
    assert gains.loc["b", "stream_kbps"] == pytest.approx(0.6)
    # streams of "a" hold 100 bits a clip more than raw ones, and 400 a second are saved
    assert gains.loc["a", "pays_off_s"] == pytest.approx(0.25)
    assert gains.loc["b", "pays_off_s"] == np.inf
    assert np.isnan(gains.loc["b", "gain_percent_low"]), "one unit has no interval"


@pytest.mark.parametrize("stand_in", ["bundled", "uniform", "other codes"])
def test_streams_are_smaller_only_with_a_model_of_their_codes(stand_in: str) -> None:
    tokens = bundled_tokens("fsq_50hz")
    labels = groups_and_units(tokens.clips)
    clips = tokens.held_out.subset(spread_clips(tokens.held_out, labels, 8))
    model, layout = default_lm("fsq_50hz_mini").model, tokens.layout
    if stand_in == "uniform":  # no code is likelier than another
        silenced = {"logits.multiplier": 0 * model.arrays["logits.multiplier"]}
        model = dataclasses.replace(model, arrays={**model.arrays, **silenced})
    if stand_in == "other codes":  # each under another name
        names = np.random.default_rng(0).permutation(clips.codebook_sizes[0])
        clips = Corpus.from_tokens({name: layout.to_tokens(names[clips.clip(i)]) for i, name in enumerate(clips.clips)})
    sizes = stream_sizes(clips, model, "lm", labels).assign(codec="x")
    row = gain_table(sizes, ["codec"]).iloc[0]
    assert Interval(row.gain_percent, row.gain_percent_low, row.gain_percent_high, 8).above(0) == (
        stand_in == "bundled"
    )
    assert row.gain_percent < max(row.payload_gain_percent, 0), "the container is part of a file"
    framing = framing_bytes(sizes)
    assert (framing["max"] - framing["min"]).max() <= 16
    odd = framing_bytes(sizes.assign(stream_bits=sizes.stream_bits + 160.0 * (sizes.index == 0)))
    assert (odd["max"] - odd["min"]).max() > 16


def test_a_voice_that_was_trained_on_is_no_new_one() -> None:
    def row(clip: str, speaker: str, split: str, domain: str = "speech") -> ClipRow:
        return ClipRow(clip, "source", domain, speaker, split, 1.0)

    rows = [row("a", "ann", "train"), row("b", "ann", "held_out"), row("c", "ann", "held_out"),
            row("d", "bob", "held_out"), row("e", "bob", "held_out"), row("f", "cid", "held_out"),
            row("g", "", "held_out", "music"), row("h", "", "train", "music")]  # fmt: skip
    assert groups_and_units(rows) == {
        "b": ("speech, trained-on voices", "b"), "c": ("speech, trained-on voices", "c"),
        "d": ("speech, new voices", "bob"), "e": ("speech, new voices", "bob"), "f": ("speech, new voices", "cid"),
        "g": ("music", "g"),
    }  # fmt: skip


def test_shorter_segments_are_more_and_cost_more(small_exact: ExactLM, small_clips: Corpus) -> None:
    recording = end_to_end(small_clips, 1000)
    np.testing.assert_array_equal(recording.clip(0), small_clips.rows())
    sizes = pd.concat(stream_sizes(recording, small_exact, "", {}, length) for length in (0.2, 1.0, 10.0))
    rows = small_clips.num_rows
    assert sizes["segments"].tolist() == [-(-rows // 10), -(-rows // 50), 1]
    assert sizes["stream_bits"].is_monotonic_decreasing
    assert (sizes["stream_bits"] > sizes["payload_bits"]).all()
    assert end_to_end(small_clips, 20).num_rows == 20


def test_clips_are_taken_from_the_domains_in_turn() -> None:
    tokens = {
        f"{domain} {n:02}": Tokens(codes=(np.arange(4),), codebook_sizes=(8,), frame_rates_hz=(50.0,))
        for domain, many in (("speech", 20), ("music", 3))
        for n in range(many)
    }
    corpus = Corpus.from_tokens(tokens)
    domains = {name: name.split()[0] for name in tokens}
    labels = {name: (domain, name) for name, domain in domains.items()}
    assert spread_clips(corpus, labels, 0) == corpus.clips
    few = spread_clips(corpus, labels, 4)
    assert set(few) == {"speech 00", "speech 19", "music 00", "music 02"}
    many = spread_clips(corpus, labels, 10)
    assert (len(many), sum(domains[name] == "music" for name in many)) == (10, 3)


def test_text_makes_no_stream(small_exact: ExactLM) -> None:
    text = Corpus.from_text({"a": TextTokens(np.arange(4), 10, 1.0)})
    with pytest.raises(UnsupportedInput, match="no codebooks"):
        stream_sizes(text, small_exact, "", {})


def test_a_regular_source_is_learned_in_moments() -> None:
    frames = np.arange(400) % 8
    tokens = {
        f"clip {n}": Tokens(codes=(frames, (frames + n) % 8), codebook_sizes=(8, 8), frame_rates_hz=(50.0,) * 2)
        for n in range(4)
    }
    corpus = Corpus.from_tokens(tokens)
    training, held_out = corpus.subset(corpus.clips[:3]), corpus.subset(corpus.clips[3:])
    model = train_exact(training, held_out, steps=40)
    codes = held_out.clip(0)
    segment = encode_frames(model, codes)
    assert 8 * len(segment.payload) < 0.9 * 3 * codes.size
    np.testing.assert_array_equal(decode_frames(model, segment.payload, len(codes))[0], codes)


def test_bandwidths_of_the_bundled_tokens() -> None:
    if not (data_dir() / "tokens" / "index.json").is_file():
        pytest.skip("no bundled tokens")
    clips = bundled_tokens("encodec_24khz").held_out.subset(["kathleen/arctic_a0066_1592747040"])
    sizes = bandwidth_sizes("encodec_24khz", [1, 2], 3, clips, {})
    assert sizes[["codebooks", "nominal_kbps"]].to_numpy().tolist() == [[1, 0.75], [2, 1.5]]
    assert (sizes["payload_bits"].to_numpy() < 1.2 * sizes["raw_bits"].to_numpy()).all()

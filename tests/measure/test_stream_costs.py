"""Sizes of streams: what is counted is what the stream holds."""

import numpy as np
import pandas as pd
import pytest

from codecbook.coding.exact.frames import decode_frames, encode_frames
from codecbook.coding.stream import encode_tokens
from codecbook.errors import UnsupportedInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.data.corpus import Corpus
from codecbook.lm.exact.spec import ExactLM
from codecbook.measure.rates.stream_costs import (
    bandwidth_sizes,
    end_to_end,
    gain_table,
    spread_clips,
    stream_sizes,
    train_exact,
)
from codecbook.paths import data_dir
from codecbook.tokens import Tokens
from codecbook.tokens.text import TextTokens

pytestmark = pytest.mark.usefixtures("one_thread")


def test_sizes_are_those_of_the_streams(small_exact: ExactLM, small_clips: Corpus) -> None:
    domains = {"clip 0": "speech", "clip 1": "music"}
    sizes = stream_sizes(small_clips, small_exact, "name", domains)
    assert sizes["domain"].tolist() == ["speech", "music", ""]
    assert small_clips.layout is not None
    for i, row in enumerate(sizes.to_dict("records")):
        codes = small_clips.clip(i)
        stream = encode_tokens(small_clips.layout.to_tokens(codes), small_exact, lm_name="name", segment_s=3600.0)
        assert row["payload_bits"] == 8 * len(encode_frames(small_exact, codes).payload)
        assert row["stream_bits"] == 8 * len(stream)
        assert (row["tokens"], row["raw_bits"], row["segments"]) == (codes.size, codes.size * 6.0, 1)
        assert row["duration_s"] == len(codes) / 50


def test_raw_streams_have_raw_payloads(small_clips: Corpus) -> None:
    sizes = stream_sizes(small_clips, None, "", {})
    np.testing.assert_array_equal(sizes["payload_bits"], np.ceil(sizes["raw_bits"] / 8) * 8)


def test_gains_are_ratios_of_sums() -> None:
    sizes = pd.DataFrame(
        {"codec": ["a", "a", "b"], "duration_s": [1.0, 3.0, 2.0], "raw_bits": [1000.0, 3000.0, 500.0],
         "payload_bits": [800.0, 1600.0, 500.0], "stream_bits": [1000.0, 2000.0, 600.0]}
    )  # fmt: skip
    gains = gain_table(sizes, ["codec"]).set_index("codec")
    assert gains.loc["a", "gain_percent"] == pytest.approx(40.0)
    assert gains.loc["a", "payload_kbps"] == pytest.approx(0.6)
    assert gains.loc["b", "stream_kbps"] == pytest.approx(0.3)
    assert gains.loc["a", "gain_low"] <= 40.0 <= gains.loc["a", "gain_high"]
    assert np.isnan(gains.loc["b", "gain_low"]), "one clip has no interval"


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
    assert spread_clips(corpus, domains, 0) == corpus.clips
    few = spread_clips(corpus, domains, 4)
    assert set(few) == {"speech 00", "speech 19", "music 00", "music 02"}
    many = spread_clips(corpus, domains, 10)
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

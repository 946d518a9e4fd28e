"""What exploration cells say is what the models and coders do."""

import numpy as np
import pytest
from bs4 import BeautifulSoup

from codecbook import clips as clip_files
from codecbook.audio import Clip, convert
from codecbook.book.explore import answers, choices, values_of
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.coding import default_lm, packets
from codecbook.coding.exact.counts import cdf_exact
from codecbook.coding.exact.frames import encode_frames
from codecbook.coding.range_coder import RangeDecoder
from codecbook.errors import CorruptInput
from codecbook.lm.data.corpora import bundled_tokens
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.exact.stepper import kernel_logits
from codecbook.lm.model_files import load_default
from codecbook.lm.score import token_bits
from codecbook.paths import data_dir
from codecbook.probes.corruption.targets import token_targets
from codecbook.probes.determinism.consequences import decode_with_changed_logit
from codecbook.probes.weights import container
from codecbook.tokens import Tokens

T = 10
HEARD = ["silence", "hold", "interpolate", "pitch"]


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return bundled_tokens("encodec_24khz").held_out.clip(0)[20 : 20 + T]


@pytest.fixture(scope="module")
def exact() -> ExactLM:
    return default_lm("encodec_24khz_mini").model


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_codec("encodec_24khz")


@pytest.fixture(scope="module")
def clip(codec: Codec) -> Clip:
    found = convert(clip_files.load_clips("", limit=1)[0][0], codec.sample_rate_hz, codec.channels)
    return Clip(found.samples[:, 24_000:48_000], found.sample_rate_hz, name="speech")


@pytest.fixture(scope="module")
def tokens(codec: Codec, clip: Clip) -> Tokens:
    return codec.encode(clip, 6.0)


def wrong_in(picture: str) -> str:
    return BeautifulSoup(picture, "html.parser").img["alt"]


def test_the_shown_cost_is_the_models_score(codes):
    model = load_default("encodec_24khz").model
    controls, answer = answers.of_positions(model, codes)
    scored = token_bits(model, codes)
    for frame, codebook in ((0, 0), (4, 3), (T - 1, 7)):
        values = answer(**values_of(controls, (str(frame), str(codebook)))).values
        # the score is float32's, by chunks of another length
        assert values["cost_bits"] == pytest.approx(scored[frame, codebook], abs=1e-3)
        assert values["frame_in_all_bits"] == pytest.approx(scored[frame].sum(), abs=1e-2)
        assert values["code_that_came"] == codes[frame, codebook]
        assert 0 < values["expected_bits"] <= values["raw_bits"] == 10


def test_the_shown_interval_is_the_one_that_was_coded(exact, codes):
    controls, answer = answers.of_intervals(exact, codes)
    coded = encode_frames(exact, codes)
    for frame, codebook in ((0, 0), (5, 2)):
        values = answer(**values_of(controls, (str(frame), str(codebook)))).values
        low, high = coded.low[frame, codebook], coded.high[frame, codebook]
        assert values["interval_of_2^20"] == f"{low} to {high}"
        assert values["cost_bits"] == pytest.approx(np.log2(2**20 / (high - low)))


def decoded_anew(exact: ExactLM, payload: bytes, place: tuple[int, int], code: int, delta: int) -> np.ndarray:
    """Decode with one logit off, evaluating the whole clip again for every code."""
    decoder, found = RangeDecoder(payload), np.zeros((T, exact.num_codebooks), dtype=np.int64)
    try:
        for t, k in np.ndindex(found.shape):
            logits = kernel_logits(exact, found[: t + 1])[t, k].astype(np.int64)
            logits[code] += delta * ((t, k) == place)
            found[t, k] = decoder.pull(cdf_exact(logits))
    except CorruptInput:
        pass
    return found


def test_a_changed_logit_parts_the_decoder_where_it_does(exact, codes):
    payload = encode_frames(exact, codes).payload
    for place, code, delta in (((2, 0), int(codes[2, 0]), 64), ((3, 4), 0, -1024), ((2, 0), 5, 0), ((4, 0), 7, 1)):
        found = decode_with_changed_logit(exact, payload, T, place, code, delta)
        np.testing.assert_array_equal(found.codes, decoded_anew(exact, payload, place, code, delta))
        assert (found.codes[: place[0]] == codes[: place[0]]).all()
        assert bool(found.ends_moved) == (delta != 0)
        assert found.is_hit == ((found.codes != codes).any() or found.error != "")


def test_first_divergence_is_that_of_a_decode(exact, codes, codec):
    controls, answer = answers.of_changed_logits(exact, codes, codec)
    payload, hits = encode_frames(exact, codes).payload, set()
    for labels in choices(controls, {"frame": 3, "delta": 4}):
        found = answer(**values_of(controls, labels))
        changed = int(found.values["code"]), controls["delta"][labels[2]]
        again = decode_with_changed_logit(exact, payload, T, (int(labels[0]), 0), *changed)
        wrong = again.codes != codes
        expected = str(np.flatnonzero(wrong.any(axis=1))[0]) if wrong.any() else "none"
        assert found.values["first_wrong_frame"] == expected
        assert found.values["wrong_tokens"] == f"{wrong.sum()} of {wrong.size}"
        assert ("as decoded" in found.clips) == (expected != "none")
        hits.add(again.is_hit)
    assert hits == {True, False}, "some changes matter and some do not"


def test_what_is_lost_is_what_differs(codec, tokens, exact):
    made = token_targets(tokens, answers_lm(), exact, segment_s=0.25)
    targets = {"raw codes": made["raw codes"], "our .cbs": made["cbs exact"]}
    known = packets.PacketFormat(tokens.format)
    controls, answer = answers.of_damage(targets, codec, tokens, known, seed=1)
    K, frames = len(tokens.codes), len(tokens.codes[0])
    for labels in choices(controls, {"share_hit": 3}):
        found = answer(**values_of(controls, labels))
        wrong, lost = found.values["tokens_wrong_unnoticed"], found.values["tokens_lost"]
        assert 0 <= wrong + lost <= K * frames
        if labels[0].startswith("packets"):
            assert wrong == 0
            assert set(found.clips) == {"undamaged", *(HEARD if lost else ["as decoded"])}
        if "raw" in labels[0]:
            assert lost == 0
            assert np.array_equal(found.clips["as decoded"].samples, found.clips["undamaged"].samples) == (wrong == 0)
        if ".cbs" in labels[0]:
            assert wrong == 0, "our stream takes no wrong token for a right one"
    most = answer(controls["damage"]["packets lost"], 0.3).values["tokens_lost"]
    assert most > answer(controls["damage"]["packets lost"], 0.01).values["tokens_lost"]


def answers_lm():
    import torch

    from codecbook.probes.corruption.targets import TableLM

    return TableLM(torch.full((8, 8, 1024), 1 / 1024))


def test_a_smaller_file_is_compared_token_by_token(codec, clip, tmp_path):
    model = container.Model.of_codec(codec, data_dir() / "models" / "encodec_24khz_mini")
    files = {"16": tmp_path / "bf16.cbw"}
    container.compress(model, lambda *_: container.Choice("bf16"), files["16"])
    controls, answer = answers.of_weights(codec, files, clip)
    found = answer(**values_of(controls, ("16",)))
    small = load_codec("encodec_24khz", weights=files["16"])
    pairs = zip(codec.encode(clip).codes, small.encode(clip).codes, strict=True)
    changed = sum(int((one != other).sum()) for one, other in pairs)
    assert found.values["changed_tokens"].startswith(f"{changed} of ")
    assert set(found.clips) == {"the clip", "weights as they are", "this file"}


def test_a_codec_is_heard_with_the_codebooks_that_were_chosen(codec, clip):
    controls, answer = answers.of_codecs({"mine": codec}, [clip], 0.5)
    label = next(label for label in controls["codebooks"]("mine", "speech") if label.startswith("4 "))
    found = answer(**values_of(controls, ("mine", "speech", label)))
    assert found.clips["original"].num_samples == 12_000
    expected = codec.decode(codec.encode(found.clips["original"]), 4)
    np.testing.assert_array_equal(found.clips["decoded"].samples, expected.samples)
    assert found.values["bitrate_kbps"] == codec.bitrate_kbps(4)

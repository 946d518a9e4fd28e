"""Segments: round trips, rate, hashes, side by side, and damage that must end well."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from codecbook.coding.cdf import coded_intervals, ideal_bits
from codecbook.coding.exact.counts import cdf_exact
from codecbook.coding.exact.frames import decode_frames, decode_many, encode_frames, encode_many
from codecbook.coding.range_coder import encode_range
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import save_exact
from codecbook.lm.exact.reference import reference_logits
from codecbook.lm.exact.spec import ExactLM
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig, TinyGPT, TinyGPTConfig
from codecbook.lm.token_lm import TokenLM

KINDS = ("in_frame", "none", "rotary")


@pytest.fixture(scope="module")
def models() -> dict[str, ExactLM]:
    made = {}
    for kind in KINDS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            if kind == "rotary":
                model: TokenLM = TinyGPT(TinyGPTConfig((11,), dim=32, layers=2, heads=4, hidden=64, context=16))
            else:
                shape = {"dim": 32, "layers": 2, "heads": 4, "hidden": 48, "head_dim": 16, "head_hidden": 24}
                model = RVQTransformer(RVQTransformerConfig((11,) * 3, window_frames=8, conditioning=kind, **shape))
        for parameter in model.parameters():  # larger, so that logits are far from even
            parameter.data.mul_(5.0 if parameter.ndim > 1 else 1.0)
        made[kind] = export_exact(model.eval(), [draw(model, 40)])
    return made


def draw(model: ExactLM | TokenLM, num_frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, model.codebook_sizes[0], (num_frames, len(model.codebook_sizes)))


def hash_of(low: np.ndarray, high: np.ndarray) -> int:
    value = 0xCBF29CE484222325
    for pair in zip(low.ravel().tolist(), high.ravel().tolist(), strict=True):
        for end in pair:
            value = (value ^ end) * 0x100000001B3 % 2**64
    return value


@pytest.mark.parametrize("num_frames", [0, 1, 15, 16, 17, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_segments_follow_the_text(kind: str, num_frames: int, models) -> None:
    model = models[kind]
    frames = draw(model, num_frames, seed=num_frames)
    stretch = 16 if kind == "rotary" else max(1, num_frames)  # from BOS again after 16 tokens
    parts = [reference_logits(model, frames[start : start + stretch]) for start in range(0, num_frames, stretch)]
    logits = np.concatenate(parts) if parts else np.zeros((0, frames.shape[1], 11), dtype=np.int64)
    cdf = cdf_exact(logits.transpose(0, 2, 1))
    low, high = coded_intervals(frames.T, cdf)
    segment = encode_frames(model, frames)
    assert segment.payload == encode_range(frames.T, cdf)
    assert segment.interval_hash == hash_of(low, high)
    assert segment.ideal_bits == pytest.approx(ideal_bits(low, high, 1 << 20), rel=1e-12)
    decoded, interval_hash = decode_frames(model, segment.payload, num_frames)
    np.testing.assert_array_equal(decoded, frames)
    assert decoded.dtype == np.int64
    assert interval_hash == segment.interval_hash


@pytest.mark.parametrize("kind", KINDS)
def test_rate_is_the_ideal_one(kind: str, models) -> None:
    frames = draw(models[kind], 3000)
    segment = encode_frames(models[kind], frames)
    np.testing.assert_array_equal(decode_frames(models[kind], segment.payload, 3000)[0], frames)
    ideal_bytes = segment.ideal_bits / 8
    assert ideal_bytes <= len(segment.payload) <= ideal_bytes * 1.0001 + 4


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_segments_at_once_are_what_they_are_alone(models, threads) -> None:
    model = models["in_frame"]
    clips = [draw(model, count, seed=count) for count in (5, 0, 40, 17)]
    segments = [encode_frames(model, clip) for clip in clips]
    payloads = [segment.payload for segment in segments]
    together = encode_many(model, clips, threads=threads)
    assert [(one.payload, one.interval_hash) for one in together] == [
        (one.payload, one.interval_hash) for one in segments
    ]
    payloads[3] = payloads[3][:4]
    results = decode_many(model, payloads, [len(clip) for clip in clips], threads=threads)
    for s in range(3):
        result = results[s]
        assert not isinstance(result, CorruptInput)
        np.testing.assert_array_equal(result[0], clips[s])
        assert result[1] == segments[s].interval_hash
    assert isinstance(results[3], CorruptInput)
    assert "breaks off after" in str(results[3])
    assert decode_many(model, [], []) == []


@pytest.mark.parametrize("kind", KINDS)
def test_any_change_of_the_model_changes_the_hash(kind: str, models) -> None:
    model = models[kind]
    frames = draw(model, 30)
    segment = encode_frames(model, frames)
    arrays = dict(model.arrays)
    arrays["logits.multiplier"] = arrays["logits.multiplier"] // 2
    other = ExactLM(model.config, arrays)
    assert other.sha256 != model.sha256
    assert encode_frames(other, frames).interval_hash != segment.interval_hash
    with pytest.raises(CorruptInput):
        decode_frames(other, segment.payload, 30)


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_ends_with_codes_in_range_or_an_error(kind: str, models) -> None:
    model = models[kind]
    rng = np.random.default_rng(0)
    refused = 0
    for length in [0, 1, 2, 7, 8, 20, 200] * 3:
        data = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        try:
            frames, _ = decode_frames(model, data, 40)
        except CorruptInput:
            refused += 1
            continue
        assert frames.shape == (40, model.num_codebooks)
        assert frames.min() >= 0
        assert frames.max() < 11
    assert refused >= 20, "hardly any garbage has exactly the bytes of its own codes"


def test_cut_and_lengthened_segments_are_refused(models) -> None:
    model = models["in_frame"]
    frames = draw(model, 40)
    payload = encode_frames(model, frames).payload
    for damaged in (payload[:-1], payload[: len(payload) // 2], b"", payload + b"\0", payload + b"\x80" * 9):
        with pytest.raises(CorruptInput):
            decode_frames(model, damaged, 40)
    for num_frames in (39, 41, 1_000_000_000_000):  # a length is not believed before the bytes are used up
        with pytest.raises(CorruptInput):
            decode_frames(model, payload, num_frames)


def test_refused_frames(models) -> None:
    model = models["in_frame"]
    with pytest.raises(CorruptInput, match=r"outside 0\.\.10"):
        encode_frames(model, np.full((2, 3), 11))
    with pytest.raises(UnsupportedInput, match="integers"):
        encode_frames(model, np.zeros((2, 2), dtype=np.int64))
    with pytest.raises(UnsupportedInput, match=r"\[T, K\]"):
        encode_frames(model, np.zeros((1, 2, 3), dtype=np.int64))


@pytest.mark.parametrize("kind", KINDS)
def test_segments_are_the_same_where_kernels_are_not_compiled(
    kind: str, models, numpy_alone: Callable[..., str], tmp_path: Path
) -> None:
    model = models[kind]
    codes = draw(model, 18)
    save_exact(tmp_path, model)
    np.save(tmp_path / "codes.npy", codes)
    code = """
import numpy as np
from codecbook.coding.exact.frames import decode_frames, encode_frames
from codecbook.lm.exact.files import load_exact

model, codes = load_exact(sys.argv[1]), np.load(sys.argv[1] + "/codes.npy")
for step in (0, 222):
    segment = encode_frames(model, codes, step)
    decoded, interval_hash = decode_frames(model, segment.payload, len(codes), step)
    assert (decoded == codes).all()
    assert interval_hash == segment.interval_hash
    print(segment.payload.hex(), segment.interval_hash)
"""
    segments = [encode_frames(model, codes, step) for step in (0, 222)]
    expected = [text for one in segments for text in (one.payload.hex(), str(one.interval_hash))]
    assert numpy_alone(code, str(tmp_path)).split() == expected

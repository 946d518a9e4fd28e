import numpy as np
import pytest

from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.tokens import Tokens, tokens_from_frames


def _tokens(**changes) -> Tokens:
    fields = {
        "codes": (np.array([1, 2, 3, 0]), np.array([0, 7, 1, 1])),
        "codebook_sizes": (4, 8),
        "frame_rates_hz": (2.0, 2.0),
    }
    return Tokens(**(fields | changes))


def test_codes_of_any_integer_type_become_int64():
    tokens = _tokens(codes=(np.array([1, 2], np.uint8), np.array([7, 0], np.uint64)))
    assert [codes.dtype for codes in tokens.codes] == [np.int64, np.int64]
    assert tokens.num_codebooks == 2
    assert tokens.num_tokens == 4
    assert tokens.bits == 2 * 2 + 2 * 3


@pytest.mark.parametrize(
    ("codes", "value"),
    [
        (np.array([0, 4, 9]), "Code 4 at index 1 of codebook 0"),
        (np.array([0, -1]), "Code -1 at index 1"),
        (np.array([2**63 + 5], np.uint64), f"Code {2**63 + 5} at index 0"),
    ],
)
def test_a_code_outside_its_codebook_is_named(codes, value):
    with pytest.raises(CorruptInput, match=value):
        _tokens(codes=(codes, np.array([0])))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"codes": ()}, UnsupportedInput, "at least one codebook"),
        ({"codebook_sizes": (4,)}, UnsupportedInput, "2 codebooks have 1 codebook sizes"),
        ({"codes": (np.array([0.5]), np.array([0]))}, UnsupportedInput, "must be integers"),
        ({"codes": (np.zeros((1, 1), int), np.array([0]))}, UnsupportedInput, "must be integers"),
        ({"codebook_sizes": (4, 0)}, UnsupportedInput, "Codebook 1 has size 0"),
        ({"frame_rates_hz": (0.0, 2.0)}, UnsupportedInput, "frame rate of 0.0"),
        ({"frame_rates_hz": (2.0, float("nan"))}, UnsupportedInput, "frame rate of nan"),
        ({"num_samples": -1}, UnsupportedInput, "num_samples=-1"),
        ({"bandwidth_kbps": 0.0}, UnsupportedInput, "bandwidth_kbps is 0.0"),
        ({"source_bitrate_kbps": float("inf")}, UnsupportedInput, "source_bitrate_kbps is inf"),
        ({"mid_codebooks": 1}, UnsupportedInput, "mid_codebooks=1 with channels=0"),
        ({"mid_codebooks": 3, "channels": 2}, UnsupportedInput, "mid_codebooks from 1 to 2"),
        ({"segment_frames": (1, 2)}, CorruptInput, "Segments of 3 frames"),
        ({"segment_frames": (5, -1)}, CorruptInput, "shortest of -1"),
        ({"scales": (1.0, 2.0)}, CorruptInput, "2 scales for 1 segments"),
        ({"scales": (1e300,)}, CorruptInput, "not all finite"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        _tokens(**changes)


def test_duration_is_of_the_audio_where_known_else_of_the_codes():
    assert _tokens().duration_s == 2.0
    assert _tokens(sample_rate_hz=100, num_samples=150).duration_s == 1.5


def test_to_frames_and_back():
    tokens = _tokens()
    frames = tokens.to_frames()
    np.testing.assert_array_equal(frames, [[1, 0], [2, 7], [3, 1], [0, 1]])
    assert tokens_from_frames(frames, (4, 8), 2.0) == tokens
    assert tokens_from_frames(frames, 8, 2.0).codebook_sizes == (8, 8)


def test_codebooks_of_several_rates_have_no_frames():
    with pytest.raises(UnsupportedInput, match="no common frames"):
        _tokens(codes=(np.array([1]), np.array([1, 2]))).to_frames()


def test_frames_need_two_axes():
    with pytest.raises(UnsupportedInput, match=r"\[T, K\]"):
        tokens_from_frames(np.zeros(4, int), 4, 2.0)


def test_leading_keeps_what_still_holds():
    tokens = _tokens(channels=2, mid_codebooks=2, bandwidth_kbps=6.0, codec="c", scales=(0.5,))
    first = tokens.leading(1)
    assert first == _tokens(
        codes=tokens.codes[:1],
        codebook_sizes=(4,),
        frame_rates_hz=(2.0,),
        channels=2,
        mid_codebooks=1,
        codec="c",
        scales=(0.5,),
    )
    assert tokens.leading(2) == tokens


@pytest.mark.parametrize("count", [0, 3])
def test_leading_refuses_codebooks_that_are_not_there(count):
    with pytest.raises(UnsupportedInput, match=f"num_codebooks={count}"):
        _tokens().leading(count)


def test_same_codes_looks_at_codes_and_sizes_alone():
    tokens = _tokens()
    assert tokens.same_codes(_tokens(codec="another"))
    assert not tokens.same_codes(tokens.leading(1))
    assert not tokens.leading(1).same_codes(tokens)
    assert not tokens.same_codes(_tokens(codebook_sizes=(4, 9)))
    assert not tokens.same_codes(_tokens(codes=(np.array([1, 2, 3, 1]), tokens.codes[1])))
    assert not tokens.same_codes(_tokens(codes=(tokens.codes[0], np.array([0, 7]))))


def test_equality_looks_at_everything():
    assert _tokens() == _tokens()
    assert _tokens() != _tokens(codec="another")
    assert _tokens() != _tokens().leading(1)
    assert _tokens() != "tokens"


def test_codes_belong_to_the_tokens():
    given = np.array([1, 2, 3])
    tokens = Tokens((given,), (8,), (50.0,))
    given[0] = 7
    assert tokens.codes[0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        tokens.codes[0][0] = 7

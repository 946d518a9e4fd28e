import dataclasses

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.base import Codec
from codecbook.coding.stream.models import default_lm
from codecbook.probes.corruption import targets
from codecbook.probes.corruption.damage import Meter, bit_errors, costs, evaluation, summary
from codecbook.probes.corruption.inject import draw
from codecbook.probes.corruption.targets import TOKEN_TARGETS, Read, TableLM, Target, audio_targets, token_targets
from codecbook.tokens import Tokens

RATE_HZ = 24_000


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_codec("encodec_24khz")


@pytest.fixture(scope="module")
def clip() -> Clip:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 200 * time_s * (1 + time_s)) * (1 + np.sin(2 * np.pi * 5 * time_s))
    return Clip(tone[None].astype(np.float32), RATE_HZ, name="tone")


@pytest.fixture(scope="module")
def tokens(codec: Codec, clip: Clip) -> Tokens:
    return codec.encode(clip, 6.0)


@pytest.fixture(scope="module")
def made(codec: Codec, tokens: Tokens) -> dict[str, Target]:
    import torch

    table = torch.softmax(3 * torch.randn(8, 8, 1024, generator=torch.Generator().manual_seed(0)), dim=2)
    return token_targets(tokens, TableLM(table), default_lm(codec).model, segment_s=0.25)


def test_every_format_gives_its_tokens_back(made: dict[str, Target], tokens: Tokens) -> None:
    assert tuple(made) == TOKEN_TARGETS
    for target in made.values():
        found = target.read(target.data)
        assert not found.refused
        assert np.array_equal(found.rows, np.stack(tokens.codes, axis=1)), target.name
        assert found.lost is None or not found.lost.any()
        spans = [span for part in target.parts.values() for span in part]
        assert all(0 <= span.start < span.stop <= len(target.data) for span in spans)


def outcome(target: Target, codec: Codec, where: str = "body", seed: int = 0):
    return Meter(target, codec).hear(draw(target.data, "flip", seed, places=target.parts[where], where=where))


def test_one_flipped_bit(made: dict[str, Target], codec: Codec) -> None:
    for name in ("raw codes", "npq", "ecdc raw"):
        heard = outcome(made[name], codec)
        assert (heard.cost.outcome, heard.wrong.sum()) == ("silent", 1), name
        assert 0 < heard.cost.bad_duration_s < 0.5
    for name in ("cbs raw", "cbs exact"):
        heard = outcome(made[name], codec)
        assert (heard.cost.outcome, heard.wrong.sum()) == ("reported", 0), name
        assert heard.lost.mean() == pytest.approx(0.25, abs=0.02)  # one segment of four
        assert heard.clip is not None
        assert heard.clip.num_samples == heard.clean.num_samples
        assert 0.2 < heard.cost.bad_duration_s < 0.5
    assert outcome(made["parquet"], codec).cost.outcome == "refused"
    assert outcome(made["ecdc acv=4"], codec).lost.all()
    assert outcome(made["ecdc lm checked"], codec).cost.outcome == "refused"


def test_upstreams_decoder_goes_astray_and_says_nothing(made: dict[str, Target], codec: Codec) -> None:
    target = made["ecdc lm"]
    (body,) = target.parts["body"]
    middle = (body.start + body.stop) // 2
    heard = Meter(target, codec).hear(draw(target.data, "flip", 0, places=[range(middle, middle + 1)]))
    assert heard.cost.outcome == "silent"
    first = int(heard.wrong.any(axis=1).argmax())
    assert 0.3 < first / len(heard.wrong) < 0.7
    assert heard.wrong[first + 2 :].mean() > 0.9


def test_lengths_headers_and_footers(made: dict[str, Target], codec: Codec) -> None:
    for name in ("ecdc raw", "ecdc acv=4", "npq", "parquet"):
        assert outcome(made[name], codec, "length").cost.outcome in ("refused", "reported"), name
    for where in ("header", "footer"):
        assert outcome(made["cbs exact"], codec, where).cost.outcome == "unchanged"
    heard = outcome(made["cbs exact"], codec, "segment header")
    assert (heard.cost.outcome, heard.wrong.sum()) == ("reported", 0)
    assert heard.lost.mean() == pytest.approx(0.25, abs=0.02)


def test_a_format_that_says_nothing_of_missing_frames(made: dict[str, Target], codec: Codec) -> None:
    target = made["raw codes"]
    heard = Meter(target, codec).hear(draw(target.data, "truncate", 0, places=[range(375, 376)]))
    assert heard.cost.outcome == "silent"
    assert heard.wrong[38:].all()
    assert not heard.wrong[:37].any()
    assert heard.clip is not None
    assert heard.cost.last_bad_s > 0.9


def test_a_reader_that_keeps_damage_to_itself_is_found_out(made: dict[str, Target], codec: Codec) -> None:
    """What the claims about detection rest on."""
    honest = made["cbs raw"]
    liar = dataclasses.replace(honest, decode=lambda data: Read(honest.read(data).rows))
    assert outcome(honest, codec).cost.outcome == "reported"
    assert outcome(liar, codec).cost.outcome == "silent"


def test_a_table_of_costs(made: dict[str, Target], codec: Codec) -> None:
    meters = [Meter(made[name], codec) for name in ("raw codes", "cbs raw")]
    table = costs(meters, ("flip", "lose"), ("body", "length"), count=2)
    assert table.groupby(["target", "kind", "where"]).size().to_dict() == {
        ("cbs raw", "flip", "body"): 2, ("cbs raw", "lose", "anywhere"): 2,
        ("raw codes", "flip", "body"): 2, ("raw codes", "lose", "anywhere"): 2,
    }  # fmt: skip
    unheard = costs(meters, ("flip", "lose"), ("body", "length"), count=2, listen=False)
    same = ["target", "kind", "where", "seed", "position", "outcome", "wrong_share", "lost_share"]
    assert table[same].equals(unheard[same])
    assert unheard.bad_duration_s.isna().all()
    by_target = summary(table).set_index("target")
    assert by_target.silent.to_dict() == {"raw codes": 1.0, "cbs raw": 0.0}
    assert by_target.silent_high["cbs raw"] == pytest.approx(1 - 0.05 ** (1 / 4))
    assert (by_target[["unchanged", "refused", "reported", "silent"]].sum(axis=1) == 1).all()


def test_recordings(clip: Clip, codec: Codec) -> None:
    made = audio_targets(clip)
    assert "flac" in made
    assert Meter(made["flac"], codec).hear(draw(made["flac"].data, "flip", 0, places=made["flac"].parts["body"]))
    cut = Meter(made["flac"], codec).hear(draw(made["flac"].data, "zero", 0, size=64))
    assert cut.cost.outcome in ("refused", "silent")
    assert np.isnan(cut.cost.wrong_share)


def test_fields_of_precision_eval(made: dict[str, Target], codec: Codec) -> None:
    raw, stream = (evaluation(made[name], codec) for name in ("ecdc raw", "cbs raw"))
    assert raw.keys() == stream.keys()
    assert (raw["outcome"], stream["outcome"]) == ("silent", "reported")
    assert stream["corrupt_chunk_index"] in (1, 2)
    assert 0 < raw["corruption_bad_duration_s"] < stream["corruption_bad_duration_s"]
    parquet = evaluation(made["parquet"], codec)
    assert parquet["corruption_bad_duration_s"] is None


def test_bit_errors(codec: Codec, clip: Clip) -> None:
    short = Clip(clip.samples[:, : RATE_HZ // 2], RATE_HZ)
    table = bit_errors({"rvq": codec, "fsq": load_codec("fsq_50hz")}, [short], (0.0, 0.01, 0.1))
    clean = table[table.bit_error_rate == 0]
    assert (clean.wrong_share == 0).all()
    assert (clean.log_mel_distance_db == 0).all()
    rvq = table[table.codec == "rvq"].set_index("bit_error_rate")
    assert rvq.kbps.iloc[0] == pytest.approx(6.0, abs=0.2)
    assert rvq.flipped_per_s[0.1] == pytest.approx(600, rel=0.2)
    # of ten bits each
    assert rvq.wrong_share[0.01] == pytest.approx(1 - 0.99**10, abs=0.05)
    assert rvq.snr_db[0.01] > rvq.snr_db[0.1]


def test_the_model_of_pairs_predicts_better_than_chance() -> None:
    lm = targets.bigram_lm()
    assert lm.table.shape == (8, 1025, 1024)
    assert np.allclose(lm.table.sum(dim=2).numpy(), 1, atol=1e-4)
    rows = targets.bundled_tokens("encodec_24khz").held_out.rows(2000)
    bits = [-np.log2(lm.table[k, rows[:-1, k] + 1, rows[1:, k]].numpy()).mean() for k in range(8)]
    assert np.mean(bits) < 9.9

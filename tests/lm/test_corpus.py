import pickle
from pathlib import Path

import numpy as np
import pytest

from codecbook import paths
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.lm.data.corpus import Corpus
from codecbook.tokens import Tokens, tokens_from_frames
from codecbook.tokens.layout import Layout, natural_order
from codecbook.tokens.npq import write_npq
from codecbook.tokens.parquet import write_tokens
from codecbook.tokens.text import TextTokens
from codecbook.tokens.token_files import write_with_companion


def _frames(count: int, num_codebooks: int = 2, size: int = 1024, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, (count, num_codebooks))


def _tokens(count: int, num_codebooks: int = 2, seed: int = 0, **metadata) -> Tokens:
    return tokens_from_frames(_frames(count, num_codebooks, seed=seed), 1024, 75.0, **metadata)


def _snac(count: int, seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    codes = tuple(rng.integers(0, 4096, count << level) for level in range(3))
    return Tokens(codes, (4096,) * 3, tuple(24_000 / 2048 * 2**level for level in range(3)))


@pytest.fixture
def clips() -> dict[str, Tokens]:
    return {f"clip_{i:02}": _tokens(20 + i, seed=i) for i in range(12)}


@pytest.mark.parametrize("kind", ["memory", "npq", "parquet", "npz"])
def test_every_source_gives_the_same_rows(kind, clips, tmp_path):
    if kind == "memory":
        corpus = Corpus.from_tokens(clips)
    elif kind == "parquet":
        corpus = Corpus.from_files(write_tokens(tmp_path / "all.parquet", clips))
    else:
        for name, tokens in clips.items():
            if kind == "npq":
                write_npq(tmp_path / f"{name}.npq", tokens)
            else:
                np.savez(tmp_path / f"{name}.npz", fine_prompt=tokens.to_frames().T.astype(np.uint16))
        corpus = Corpus.from_files(tmp_path, bark=True)
    assert corpus.clips == tuple(clips)
    assert (corpus.codebook_sizes, corpus.frame_rate_hz) == ((1024, 1024), 75.0)
    assert corpus.num_tokens == sum(tokens.num_tokens for tokens in clips.values())
    assert corpus.duration_s == pytest.approx(sum(tokens.duration_s for tokens in clips.values()), rel=1e-12)
    for i, tokens in enumerate(clips.values()):
        np.testing.assert_array_equal(corpus.clip(i), tokens.to_frames())
    everything = np.concatenate([tokens.to_frames() for tokens in clips.values()])
    np.testing.assert_array_equal(corpus.rows(), everything)
    np.testing.assert_array_equal(corpus.rows(100), everything[:100])
    np.testing.assert_array_equal(corpus.clip(3, 5, 9), clips["clip_03"].to_frames()[5:9])
    assert corpus.rows(0).shape == (0, 2)
    with pytest.raises(IndexError):
        corpus.clip(99)


def test_flat_orders_are_those_of_the_layout(tmp_path):
    tokens = _tokens(9, num_codebooks=3)
    flat = Corpus.from_tokens({"a": tokens}, order="flat")
    assert (flat.codebook_sizes, flat.frame_rate_hz) == ((3072,), 225.0)
    np.testing.assert_array_equal(flat.clip(0)[:, 0], Layout("flat", tokens.format).to_rows(tokens)[:, 0])
    snac = _snac(5)
    path = write_tokens(tmp_path / "snac.parquet", {"a": snac})
    for order in ("orpheus", "orpheus_per_position"):
        corpus = Corpus.from_files(path, order=order)
        assert corpus.codebook_sizes == Layout(order, snac.format).codebook_sizes
        assert corpus.frame_rate_hz == pytest.approx(82.03, abs=0.01)
        np.testing.assert_array_equal(corpus.clip(0)[:, 0], Layout(order, snac.format).to_rows(snac)[:, 0])


@pytest.mark.parametrize("order", ["parallel", "flat", "orpheus", "orpheus_per_position"])
def test_rows_go_back_to_tokens(order):
    tokens = _snac(4) if order.startswith("orpheus") else _tokens(6, codec="encodec_24khz", channels=1)
    corpus = Corpus.from_tokens({"a": tokens}, order=order)
    assert corpus.layout is not None
    assert corpus.layout.to_tokens(corpus.clip(0)) == tokens
    with pytest.raises(UnsupportedInput, match="Rows of order"):
        corpus.layout.to_tokens(corpus.clip(0)[:, 0])


def test_leading_codebooks(clips):
    corpus = Corpus.from_tokens({**clips, "more": _tokens(20, num_codebooks=4)}, num_codebooks=1)
    assert corpus.codebook_sizes == (1024,)
    np.testing.assert_array_equal(corpus.clip(0)[:, 0], clips["clip_00"].codes[0])


def test_split_by_clip(clips):
    corpus = Corpus.from_tokens(dict(reversed(clips.items())))
    train, held_out = corpus.split(held_out_every=5)
    assert set(train.clips) | set(held_out.clips) == set(clips)
    assert not set(train.clips) & set(held_out.clips)
    assert train.num_tokens + held_out.num_tokens == corpus.num_tokens
    for index, name in enumerate(held_out.clips):
        np.testing.assert_array_equal(held_out.clip(index), clips[name].to_frames())


def test_clips_that_come_or_go_move_no_other(clips):
    held_out = set(Corpus.from_tokens(clips).split(5)[1].clips)
    assert len(held_out) > 1  # so that no exception is at work below
    more = clips | {f"a{i}": _tokens(30, seed=100 + i) for i in range(20)}
    assert set(Corpus.from_tokens(more).split(5)[1].clips) & set(clips) == held_out
    for name in set(clips) - held_out:
        rest = {other: tokens for other, tokens in clips.items() if other != name}
        assert set(Corpus.from_tokens(rest).split(5)[1].clips) == held_out


def test_a_clip_under_another_name_is_on_the_same_side(clips):
    renamed = clips | {f"copy of {name}": tokens for name, tokens in clips.items()}
    train, held_out = Corpus.from_tokens(renamed).split(5)
    for side in (train, held_out):
        assert {name.removeprefix("copy of ") for name in side.clips} <= set(side.clips)


@pytest.mark.parametrize("order", ["parallel", "flat", "grouped", "orpheus"])
def test_sides_are_the_same_in_every_order_and_number_of_codebooks(order, clips):
    if order in ("grouped", "orpheus"):
        clips = {f"snac_{i}": _snac(4 + i, seed=i) for i in range(12)}
    by_default = Corpus.from_tokens(clips, natural_order(next(iter(clips.values())))).split(5)[1].clips
    assert Corpus.from_tokens(clips, order).split(5)[1].clips == by_default
    if order == "parallel":
        assert Corpus.from_tokens(clips, order, num_codebooks=1).split(5)[1].clips == by_default


@pytest.mark.parametrize("by", [r"^(s\d)_", r"^s\d"])
def test_split_by_speaker_keeps_speakers_apart(by):
    names = [f"s{speaker}_{i}" for speaker in range(9) for i in range(3)]
    train, held_out = Corpus.from_tokens({name: _tokens(5) for name in names}).split(3, by=by)
    sides = [{name[:2] for name in side.clips} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {name[:2] for name in names}
    fewer = Corpus.from_tokens({name: _tokens(5) for name in names if name[:2] != min(sides[0])})
    assert {name[:2] for name in fewer.split(3, by=by)[1].clips} == sides[1]


def test_an_empty_split_is_refused(clips):
    corpus = Corpus.from_tokens(clips)
    with pytest.raises(UnsupportedInput, match="too few for two sides"):
        corpus.subset(["clip_00"]).split()
    with pytest.raises(UnsupportedInput, match="too few for two sides"):
        corpus.split(by="clip_")
    with pytest.raises(UnsupportedInput, match="2 clips have 1 distinct content"):
        Corpus.from_tokens({"a": clips["clip_00"], "b": clips["clip_00"]}).split()
    with pytest.raises(UnsupportedInput, match="held_out_every=1"):
        corpus.split(held_out_every=1)
    with pytest.raises(UnsupportedInput, match="not found"):
        corpus.split(by="speaker")
    with pytest.raises(UnsupportedInput, match="no regular expression"):
        corpus.split(by="(")


def test_subset(clips):
    corpus = Corpus.from_tokens(clips).subset(["clip_03", "clip_01"])
    assert corpus.clips == ("clip_01", "clip_03")
    for names in ([], ["clip_99"]):
        with pytest.raises(UnsupportedInput):
            corpus.subset(names)


@pytest.mark.parametrize(
    "other",
    [
        tokens_from_frames(_frames(5, 4), 1024, 75.0),
        tokens_from_frames(_frames(5), 2048, 75.0),
        tokens_from_frames(_frames(5), 1024, 50.0),
        _tokens(5, codec="other"),
        _tokens(5, codec="c", weights="pretrained"),
    ],
)
def test_mixed_codecs_are_refused(other):
    first = _tokens(5, codec="c", weights="bundled")
    with pytest.raises(UnsupportedInput, match=r"'a' and 'b' differ"):
        Corpus.from_tokens({"a": first, "b": other})


def test_rates_that_differ_by_float32_rounding_are_one(tmp_path):
    rate_hz = 44_100 / 512.3
    write_npq(tmp_path / "a.npq", tokens_from_frames(_frames(5), 1024, rate_hz))
    write_tokens(tmp_path / "b.parquet", {"c": tokens_from_frames(_frames(5), 1024, rate_hz)})
    assert len(Corpus.from_files(tmp_path)) == 2


def test_a_companion_tells_the_codec(tmp_path):
    tokens = _tokens(5, codec="encodec_24khz", sample_rate_hz=24_000)
    write_with_companion(tmp_path / "a.npq", tokens, {}, {})
    layout = Corpus.from_files(tmp_path / "a.npq").layout
    assert layout is not None
    assert (layout.format.codec, layout.format.sample_rate_hz) == ("encodec_24khz", 24_000)


def test_orders_that_do_not_fit_are_refused(clips):
    with pytest.raises(UnsupportedInput, match="unknown"):
        Corpus.from_tokens(clips, order="delayed")
    with pytest.raises(UnsupportedInput, match="double"):
        Corpus.from_tokens(clips, order="orpheus")
    with pytest.raises(UnsupportedInput, match="of one rate"):
        Corpus.from_tokens({"a": _snac(3)})


def test_bad_paths_are_refused(tmp_path):
    with pytest.raises(UnsupportedInput, match="No token files"):
        Corpus.from_files(tmp_path)
    with pytest.raises(MissingInput, match="no token file or folder"):
        Corpus.from_files(tmp_path / "none.npq")
    (tmp_path / "a.wav").touch()
    with pytest.raises(UnsupportedInput, match=r"\.npq"):
        Corpus.from_files(tmp_path / "a.wav")
    with pytest.raises(UnsupportedInput, match="at least one clip"):
        Corpus.from_tokens({})


def test_bad_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, codes=np.array([[1, 2]]))
    with pytest.raises(UnsupportedInput, match=r"a\.npz"):
        Corpus.from_files(path, bark=True)
    for codes in (np.array([[1, 2000]]), np.array([None], dtype=object)):
        np.savez(path, fine_prompt=codes)
        with pytest.raises(CorruptInput, match=r"a\.npz"):
            Corpus.from_files(path, bark=True)
    np.savez(path, fine_prompt=np.array([[1, 2]]))
    with pytest.raises(UnsupportedInput, match="pass bark=True"):
        Corpus.from_files(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptInput, match=r"a\.npz"):
        Corpus.from_files(path, bark=True)
    with path.open("wb") as file:
        np.save(file, np.zeros((2, 3), dtype=int))
    with pytest.raises(CorruptInput, match=r"a\.npz"):
        Corpus.from_files(path, bark=True)


def test_two_clips_of_one_name_are_refused(clips, tmp_path):
    for name in ("a", "b"):
        write_tokens(tmp_path / f"{name}.parquet", clips)
    with pytest.raises(UnsupportedInput, match="Two clips are named"):
        Corpus.from_files(tmp_path)


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    for folder in ("x", "y"):
        write_npq(tmp_path / folder / "a.npq", _tokens(5))
    assert Corpus.from_files(tmp_path).clips == ("x/a", "y/a")


def test_a_damaged_code_is_noticed(tmp_path):
    path = write_npq(tmp_path / "a.npq", _tokens(20))
    data = bytearray(path.read_bytes())
    data[-1] = 0xFF
    path.write_bytes(data)
    with pytest.raises(CorruptInput, match="outside"):
        Corpus.from_files(path)


def test_text_as_rows():
    texts = {"a": TextTokens(np.array([1, 2, 3]), 50, 1.0), "b": TextTokens(np.array([4, 5]), 50, 0.25)}
    corpus = Corpus.from_text(texts)
    assert (corpus.codebook_sizes, corpus.layout, corpus.frame_rate_hz) == ((50,), None, 4.0)
    assert corpus.frame_rate_hz == corpus.tokens_per_s
    np.testing.assert_array_equal(corpus.rows()[:, 0], [1, 2, 3, 4, 5])
    assert len(set(corpus.identities)) == 2
    assert corpus.subset(["b"]).frame_rate_hz == 8.0
    with pytest.raises(UnsupportedInput, match="one tokenizer"):
        Corpus.from_text({**texts, "c": TextTokens(np.array([1]), 60, 1.0)})


def test_files_that_change_or_go_do_not_matter_once_they_are_open(clips, tmp_path):
    path = write_tokens(tmp_path / "a.parquet", clips)
    corpus = Corpus.from_files(path)
    path.unlink()
    back = pickle.loads(pickle.dumps(corpus.subset(["clip_03", "clip_07"])))
    np.testing.assert_array_equal(back.rows(40), np.concatenate([corpus.clip(3), corpus.clip(7)])[:40])


def test_empty_clips_are_clips():
    corpus = Corpus.from_tokens({"a": _tokens(0)})
    assert (corpus.clips, corpus.num_rows, corpus.clip(0).shape) == (("a",), 0, (0, 2))


def test_large_codebooks_are_kept_exactly():
    tokens = tokens_from_frames(np.array([[0], [65_536], [2**32 - 1]]), 2**32, 50.0)
    np.testing.assert_array_equal(Corpus.from_tokens({"a": tokens}).clip(0), tokens.to_frames())


def test_bark_prompts():
    extra = paths.extra_dir()
    if extra is None or not (extra / "data" / "bark_encodec_tokens").is_dir():
        pytest.skip("Bark's prompts need CODECBOOK_EXTRA with data/bark_encodec_tokens")
    corpus = Corpus.from_files(extra / "data" / "bark_encodec_tokens", bark=True)
    train, held_out = corpus.split()
    assert (len(train), len(held_out), corpus.num_tokens) == (189, 20, 937_104)
    assert corpus.codebook_sizes == (1024,) * 8


def test_a_packed_corpus_is_the_same_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = {
        f"clip {index}": tokens_from_frames(rng.integers(0, 16, size=(index + 3, 2)), 16, 50.0, codec="fsq_50hz")
        for index in range(6)
    }
    corpus = Corpus.from_tokens(tokens, "flat")
    corpus.pack(tmp_path / "packed")
    packed = Corpus.from_files(tmp_path / "packed", "flat")
    for ours, theirs in zip((corpus, *corpus.split(3)), (packed, *packed.split(3)), strict=True):
        assert (theirs.clips, theirs.layout, theirs.identities) == (ours.clips, ours.layout, ours.identities)
        assert theirs.duration_s == ours.duration_s
        assert all(np.array_equal(theirs.clip(index), ours.clip(index)) for index in range(len(ours)))

    with pytest.raises(UnsupportedInput, match="order='parallel' with num_codebooks=None is not how"):
        Corpus.from_files(tmp_path / "packed")
    rows = tmp_path / "packed" / "rows.bin"
    content = rows.read_bytes()
    for damaged in (content[:-1], content + b"\0", b""):
        rows.write_bytes(damaged)
        with pytest.raises(CorruptInput, match="pack it again"):
            Corpus.from_files(tmp_path / "packed", "flat")

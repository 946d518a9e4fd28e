import json
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecbook import paths
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.lm.data import BARK_FINE, Corpus, NpzLayout
from codecbook.lm.windows import IGNORE
from codecbook.tokens import Tokens, orders, tokens_from_frames
from codecbook.tokens.npq import write_npq
from codecbook.tokens.parquet import write_tokens
from codecbook.tokens.text import TextTokens

PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)


def _frames(count: int, num_codebooks: int = 2, size: int = 1024, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, (count, num_codebooks))


def _tokens(count: int, num_codebooks: int = 2, seed: int = 0, **metadata) -> Tokens:
    return tokens_from_frames(_frames(count, num_codebooks, seed=seed), 1024, 75.0, **metadata)


def _snac(count: int, seed: int = 0) -> Tokens:
    rng = np.random.default_rng(seed)
    codes = tuple(rng.integers(0, 4096, count << level) for level in range(3))
    rates = tuple(orders.SNAC_FRAME_RATE_HZ * 2**level for level in range(3))
    return Tokens(codes, orders.SNAC_CODEBOOK_SIZES, rates)


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
                np.savez(tmp_path / f"{name}.npz", codes=tokens.to_frames().T.astype(np.uint16))
        corpus = Corpus.from_files(tmp_path, npz=NpzLayout("codes", 1024, 75.0))
    assert corpus.clips == tuple(clips)
    assert (corpus.codebook_sizes, corpus.frame_rate_hz) == ((1024, 1024), 75.0)
    assert corpus.num_tokens == sum(tokens.num_tokens for tokens in clips.values())
    assert corpus.duration_s == pytest.approx(sum(tokens.duration_s for tokens in clips.values()), rel=1e-12)
    for i, tokens in enumerate(clips.values()):
        np.testing.assert_array_equal(corpus.clip(i), tokens.to_frames())
    everything = np.concatenate([tokens.to_frames() for tokens in clips.values()])
    np.testing.assert_array_equal(corpus.rows(15, 100), everything[15:100])
    assert corpus.rows(0, 0).shape == (0, 2)


@PROPERTY
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 9), st.booleans()
)
def test_windows_hold_every_row_and_repeats_are_known(lengths, context, stride, packed):
    corpus = Corpus.from_tokens({f"c{i}": _tokens(n, seed=i) for i, n in enumerate(lengths)})
    if stride > context or corpus.num_rows < context:
        with pytest.raises(UnsupportedInput):
            corpus.windows(context, stride, packed)
        return
    windows = corpus.windows(context, stride, packed)
    rows = []
    for i, window in enumerate(windows):
        assert window.shape == (context, 2)
        length = windows.lengths[i]
        assert (window[length:] == IGNORE).all()
        rows.append(window[windows.repeats[i] : length])
        assert len(rows[-1]) > 0, "no window is made of what others hold already"
        clip = windows.clip_indices[i]
        if not packed:
            ends = np.cumsum(corpus.clip_rows)
            assert ends[clip] - corpus.clip_rows[clip] <= windows.starts[i] < ends[clip]
    np.testing.assert_array_equal(np.concatenate(rows), corpus.rows(0, corpus.num_rows))


def test_windows_by_hand():
    frames = np.arange(14).reshape(7, 2)
    corpus = Corpus.from_tokens({"a": tokens_from_frames(frames, 1024, 75.0)})
    windows = corpus.windows(4, 2)
    assert windows.starts.tolist() == [0, 2, 4]
    assert windows.repeats.tolist() == [0, 2, 2]
    np.testing.assert_array_equal(windows[2][:, 0], [8, 10, 12, -1])
    np.testing.assert_array_equal(windows.batch([0, -1]), np.stack([windows[0], windows[2]]))
    assert windows.filling == pytest.approx(1 / 12)
    assert len(corpus.windows(4)) == 2
    with pytest.raises(IndexError):
        windows[3]
    with pytest.raises(UnsupportedInput, match="no windows"):
        windows.batch([])


def test_flat_orders_are_those_of_the_orders_module(tmp_path):
    tokens = _tokens(9, num_codebooks=3)
    flat = Corpus.from_tokens({"a": tokens}, order="flat")
    assert (flat.codebook_sizes, flat.frame_rate_hz) == ((3072,), 225.0)
    np.testing.assert_array_equal(flat.clip(0)[:, 0], orders.rvq_flatten(tokens))
    snac = _snac(5)
    path = write_tokens(tmp_path / "snac.parquet", {"a": snac})
    for order, per_position in (("orpheus", False), ("orpheus_per_position", True)):
        corpus = Corpus.from_files(path, order=order)
        assert corpus.codebook_sizes == (orders.orpheus_vocabulary_size(per_position=per_position),)
        assert corpus.frame_rate_hz == pytest.approx(82.03, abs=0.01)
        np.testing.assert_array_equal(corpus.clip(0)[:, 0], orders.orpheus_flatten(snac, per_position))


@pytest.mark.parametrize("order", ["parallel", "flat", "orpheus", "orpheus_per_position"])
def test_rows_go_back_to_tokens(order):
    tokens = _snac(4) if order.startswith("orpheus") else _tokens(6, codec="encodec_24khz", channels=1)
    corpus = Corpus.from_tokens({"a": tokens}, order=order)
    assert corpus.layout is not None
    assert corpus.layout.to_tokens(corpus.clip(0)) == tokens
    with pytest.raises(UnsupportedInput, match="shape"):
        corpus.layout.to_tokens(corpus.clip(0)[:, 0])


def test_a_part_of_a_large_npq_file_is_that_part(tmp_path):
    tokens = _tokens(5000, num_codebooks=3)
    write_npq(tmp_path / "long.npq", tokens)
    flat = Corpus.from_files(tmp_path / "long.npq", order="flat", cache_bytes=1 << 10)
    np.testing.assert_array_equal(flat.rows(100, 200)[:, 0], orders.rvq_flatten(tokens)[100:200])


def test_leading_codebooks(clips):
    corpus = Corpus.from_tokens({**clips, "more": _tokens(20, num_codebooks=4)}, num_codebooks=1)
    assert corpus.codebook_sizes == (1024,)
    np.testing.assert_array_equal(corpus.clip(0)[:, 0], clips["clip_00"].codes[0])


def test_split_by_clip(clips):
    corpus = Corpus.from_tokens(dict(reversed(clips.items())))
    train, held_out = corpus.split(held_out_every=5)
    assert set(held_out.clips) == {"clip_00", "clip_05", "clip_10"}
    assert set(train.clips) == set(clips) - set(held_out.clips)
    assert train.num_tokens + held_out.num_tokens == corpus.num_tokens
    np.testing.assert_array_equal(
        held_out.clip(held_out.clips.index("clip_05")), clips["clip_05"].to_frames()
    )


@pytest.mark.parametrize("by", [r"^(s\d)_", lambda name: name[:2]])
def test_split_by_speaker_keeps_speakers_apart(by):
    names = [f"s{speaker}_{i}" for speaker in range(4) for i in range(3)]
    corpus = Corpus.from_tokens({name: _tokens(5) for name in names})
    train, held_out = corpus.split(held_out_every=3, by=by)
    assert {name[:2] for name in held_out.clips} == {"s0", "s3"}
    assert {name[:2] for name in train.clips} == {"s1", "s2"}


def test_an_empty_split_is_refused(clips):
    corpus = Corpus.from_tokens(clips)
    with pytest.raises(UnsupportedInput, match="empty"):
        corpus.subset(["clip_00"]).split()
    with pytest.raises(UnsupportedInput, match="empty"):
        corpus.split(by="clip_")
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
    write_npq(tmp_path / "a.npq", _tokens(5))
    fields = (
        "codec", "weights", "sample_rate_hz", "channels", "num_samples", "bandwidth_kbps", "segment_frames", "scales",
    )  # fmt: skip
    about = {name: getattr(_tokens(5, codec="encodec_24khz", sample_rate_hz=24_000), name) for name in fields}
    companion = {
        "codecbook_companion": 1,
        "settings": {},
        "tokens": about,
        "report": {},
        "output_sha256": "",
    }
    (tmp_path / "a.npq.json").write_text(json.dumps(companion))
    layout = Corpus.from_files(tmp_path / "a.npq").layout
    assert layout is not None
    assert (layout.template.codec, layout.template.sample_rate_hz) == ("encodec_24khz", 24_000)


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
    with pytest.raises(CorruptInput, match="no token file or folder"):
        Corpus.from_files(tmp_path / "none.npq")
    (tmp_path / "a.wav").touch()
    with pytest.raises(UnsupportedInput, match=r"\.npq"):
        Corpus.from_files(tmp_path / "a.wav")
    with pytest.raises(UnsupportedInput, match="at least one clip"):
        Corpus.from_tokens({})


def test_bad_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, codes=np.array([[1, 2000]]), objects=np.array([None], dtype=object))
    with pytest.raises(UnsupportedInput, match="BARK_FINE"):
        Corpus.from_files(path)
    for npz, error in (
        (NpzLayout("missing", 1024, 75.0), UnsupportedInput),
        (NpzLayout("codes", 1024, 75.0), CorruptInput),
        (NpzLayout("objects", 1024, 75.0), CorruptInput),
    ):
        with pytest.raises(error, match=r"a\.npz"):
            Corpus.from_files(path, npz=npz)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptInput, match=r"a\.npz"):
        Corpus.from_files(path, npz=NpzLayout("codes", 4096, 75.0))


def test_two_clips_of_one_name_are_refused(clips, tmp_path):
    for name in ("a", "b"):
        write_tokens(tmp_path / f"{name}.parquet", clips)
    with pytest.raises(UnsupportedInput, match="Two clips are named"):
        Corpus.from_files(tmp_path)


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    for folder in ("x", "y"):
        write_npq(tmp_path / folder / "a.npq", _tokens(5))
    assert Corpus.from_files(tmp_path).clips == ("x/a", "y/a")


@pytest.mark.parametrize("suffix", ["npq", "parquet", "npz"])
def test_a_file_altered_since_the_index_is_noticed(tmp_path, suffix):
    def write(tokens: Tokens) -> None:
        if suffix == "npq":
            write_npq(path, tokens, overwrite=True)
        elif suffix == "parquet":
            write_tokens(path, tokens, overwrite=True)
        else:
            np.savez(path, codes=tokens.to_frames().T)

    path = tmp_path / f"a.{suffix}"
    write(_tokens(20))
    corpus = Corpus.from_files(path, npz=NpzLayout("codes", 1024, 75.0))
    write(_tokens(30))
    with pytest.raises(CorruptInput, match="altered"):
        corpus.clip(0)


def test_a_damaged_code_is_noticed_when_it_is_read(tmp_path):
    path = write_npq(tmp_path / "a.npq", _tokens(20), storage="u16")
    corpus = Corpus.from_files(path)
    data = bytearray(path.read_bytes())
    data[-1] = 0xFF
    path.write_bytes(data)
    with pytest.raises(CorruptInput, match="outside"):
        corpus.windows(20)[0]


def test_rows_out_of_range_are_refused(clips):
    corpus = Corpus.from_tokens(clips)
    for start, stop in ((-1, 2), (3, 2), (0, corpus.num_rows + 1)):
        with pytest.raises(UnsupportedInput, match="Rows"):
            corpus.rows(start, stop)
    with pytest.raises(UnsupportedInput, match="Clip 99"):
        corpus.clip(99)


def test_text_as_rows():
    texts = {
        "a": TextTokens(np.array([1, 2, 3]), 50, 1.0, 9),
        "b": TextTokens(np.array([4, 5]), 50, 0.25, 5),
    }
    corpus = Corpus.from_text(texts)
    assert (corpus.codebook_sizes, corpus.layout, corpus.frame_rate_hz) == ((50,), None, 4.0)
    assert corpus.frame_rate_hz == corpus.tokens_per_s
    np.testing.assert_array_equal(corpus.windows(5, packed=True)[0][:, 0], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(corpus.windows(3)[1][:, 0], [4, 5, -1])
    assert corpus.subset(["b"]).frame_rate_hz == 8.0
    with pytest.raises(UnsupportedInput, match="one tokenizer"):
        Corpus.from_text({**texts, "c": TextTokens(np.array([1]), 60, 1.0, 1)})


def test_shuffles_repeat_and_hold_each_window_once(clips):
    windows = Corpus.from_tokens(clips).windows(10, 5)
    order = windows.shuffled(3)
    np.testing.assert_array_equal(order, windows.shuffled(3))
    assert not np.array_equal(order, windows.shuffled(4))
    np.testing.assert_array_equal(np.sort(order), np.arange(len(windows)))


def test_a_large_corpus_is_shuffled_in_groups_that_fit(monkeypatch, tmp_path):
    monkeypatch.setattr("codecbook.tokens.parquet._ROW_GROUP_CODES", 2000)
    path = write_tokens(tmp_path / "a.parquet", {f"c{i}": _tokens(1000, seed=i) for i in range(16)})
    corpus = Corpus.from_files(path, cache_bytes=32_000)  # eight of the sixteen row groups
    reads = []
    original = corpus._store.shards[0].__class__.load

    def counted(self, layout):
        reads.append(self)
        return original(self, layout)

    monkeypatch.setattr("codecbook.lm.shards.ParquetShard.load", counted)
    windows = corpus.windows(100)
    order = windows.shuffled(0)
    np.testing.assert_array_equal(np.sort(order), np.arange(160))
    windows.batch(order)
    assert len(reads) == 16, "every row group is read once"
    assert len(set(windows.clip_indices[order[:20]])) > 2, "and yet windows of several clips are mixed"


def test_a_corpus_larger_than_its_cache_stays_small(tmp_path):
    rows = 1 << 20
    write_npq(tmp_path / "one.npq", _tokens(rows))  # 4 MiB, read by window
    for i in range(8):
        write_npq(tmp_path / "many" / f"{i}.npq", _tokens(1 << 12, seed=i))  # 16 KiB each
    tracemalloc.start()
    try:
        corpus = Corpus.from_files(tmp_path, cache_bytes=1 << 16)
        windows = corpus.windows(256, 256)
        order = windows.shuffled(0)[:400]
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for i in order:
            windows[int(i)]
        for i in range(8):
            corpus.clip(i)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert corpus.num_rows == rows + 8 * (1 << 12)
    assert peak - before < 1 << 20


def test_the_cache_keeps_to_its_limit(tmp_path):
    for i in range(20):
        np.savez(tmp_path / f"{i:02}.npz", codes=_frames(100, seed=i).T)  # 400 bytes of uint16
    corpus = Corpus.from_files(tmp_path, npz=NpzLayout("codes", 1024, 75.0), cache_bytes=1500)
    for i in range(20):
        np.testing.assert_array_equal(corpus.clip(i), _frames(100, seed=i))
    assert list(corpus._store._kept) == [17, 18, 19]
    back = pickle.loads(pickle.dumps(corpus))
    assert not back._store._kept
    np.testing.assert_array_equal(back.clip(4), corpus.clip(4))


def test_large_codebooks_are_kept_exactly():
    tokens = tokens_from_frames(np.array([[0], [65_536], [2**32 - 1]]), 2**32, 50.0)
    np.testing.assert_array_equal(Corpus.from_tokens({"a": tokens}).clip(0), tokens.to_frames())


def test_bark_prompts():
    extra = paths.extra_dir()
    if extra is None or not (extra / "data" / "bark_encodec_tokens").is_dir():
        pytest.skip("Bark's prompts need CODECBOOK_EXTRA with data/bark_encodec_tokens")
    corpus = Corpus.from_files(extra / "data" / "bark_encodec_tokens", npz=BARK_FINE)
    train, held_out = corpus.split()
    assert (len(train), len(held_out), corpus.num_tokens) == (188, 21, 937_104)
    assert corpus.codebook_sizes == (1024,) * 8

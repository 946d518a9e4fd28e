"""Stored costs: they come back as they were, and are of their tokens, weights, clips and vocabulary alone."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from codecbook.codecs.corpus.index import ClipRow, CorpusEntry, TokenIndex, read_index
from codecbook.errors import CorruptInput, MissingInput, UnsupportedInput
from codecbook.files import sha256_of
from codecbook.lm.training.options import Evaluation
from codecbook.measure.rates.material import indexed_material
from codecbook.measure.rates.stored import ABOUT_NAME, COSTS_NAME, Run, file_rates, read_costs, scaling, write_costs
from codecbook.measure.rates.streams import Stream, code_stream
from codecbook.measure.rates.study import MODEL, RAW, ClipParts, Learned
from codecbook.models.store import CONFIG_NAME
from codecbook.paths import data_dir
from codecbook.tokens import tokens_from_frames
from codecbook.tokens.parquet import write_tokens

PARTS = ClipParts(("a",), ("b",), ("c", "d"))
LOOK = Evaluation(1, 1.0, 60.0, 10, 3.0, 2.5, (2.5,))


def stream_of(size: int = 8) -> Stream:
    tokens = {clip: tokens_from_frames(np.arange(20).reshape(10, 2) % 8, size, 10.0) for clip in PARTS.all}
    return code_stream("codec", tokens, "parallel")


def run_of(stream: Stream, share: float = 1.0) -> Run:
    bits = {MODEL: np.array([[1.5, 2.0], [2.5, 3.0]]) * share, RAW: np.full((2, 2), 30.0)}
    learned = Learned(
        stream=stream, clips=("c", "d"), level_bits=bits, level_tokens=np.full((2, 2), 10), durations_s=np.ones(2),
        trunk_parameters=5, row_parameters=6, tokens_seen=40, passes=2.0, evaluations=(LOOK,), distinct_share=0.5,
        weights_sha256="w",
    )  # fmt: skip
    return Run(learned, share, 16, 0.1, {"d": (6.0, 16.0)} if share == 1 else {})


@pytest.fixture
def index(tmp_path: Path) -> TokenIndex:
    stream = stream_of()
    assert stream.columns.layout is not None
    layout = stream.columns.layout
    clips = {clip: layout.to_tokens(stream.columns.clip(i)) for i, clip in enumerate(stream.columns.clips)}
    path = write_tokens(tmp_path / "codec.parquet", clips)
    entry = CorpusEntry(path.name, sha256_of(path), 1, "", "weights", 2, 4, 4.0, 80, 240.0)
    index = TokenIndex(tmp_path, {"codec": entry}, {c: ClipRow(c, "s", "speech", "", "train", 1.0) for c in PARTS.all})
    write_costs(tmp_path, [run_of(stream), run_of(stream, 0.5)], index, {"command": "made so"})
    return index


def test_costs_come_back(index: TokenIndex) -> None:
    runs, about = read_costs(index, [stream_of()], PARTS)
    assert about["command"] == "made so"
    assert [(run.share, run.dim, run.dropout) for run in runs] == [(1.0, 16, 0.1), (0.5, 16, 0.1)]
    for run, expected in zip(runs, map(run_of, [stream_of()] * 2, (1.0, 0.5)), strict=True):
        for code, bits in expected.learned.level_bits.items():
            np.testing.assert_array_equal(run.learned.level_bits[code], bits)
        np.testing.assert_array_equal(run.learned.level_tokens, expected.learned.level_tokens)
        for name in ("clips", "trunk_parameters", "passes", "evaluations", "weights_sha256"):
            assert getattr(run.learned, name) == getattr(expected.learned, name)
    assert file_rates(runs[0]) == {"files": 1, "model, bits/s": 5.5, "payload, bits/s": 6.0, "file, bits/s": 16.0}
    assert read_costs(index, [], PARTS)[0] == []


def test_scaling_is_of_the_widest_models_and_needs_four_shares() -> None:
    runs = [run_of(stream_of(), share) for share in (0.125, 0.25, 0.5, 1.0)]
    table, floors = scaling([*runs, dataclasses.replace(runs[-1], dim=8)])
    assert table["bits_per_s"].to_list() == pytest.approx([4.5 * s for s in (0.125, 0.25, 0.5, 1.0, 1.0)])
    assert list(floors) == ["codec, parallel"]
    assert scaling(runs[1:])[1] == {}
    assert len(scaling([])[0]) == 0


@pytest.mark.parametrize("field", ["sha256", "codec_weights_sha256"])
def test_costs_of_other_tokens_or_weights_are_refused(index: TokenIndex, field: str) -> None:
    other = dataclasses.replace(index.entry("codec"), **{field: "other"})
    with pytest.raises(UnsupportedInput, match="are of"):
        read_costs(dataclasses.replace(index, corpora={"codec": other}), [stream_of()], PARTS)


def test_costs_of_other_clips_or_another_vocabulary_are_refused(index: TokenIndex) -> None:
    with pytest.raises(UnsupportedInput, match="keep the split"):
        read_costs(index, [stream_of()], ClipParts(("a",), ("c",), ("b", "d")))
    with pytest.raises(UnsupportedInput, match="vocabulary"):
        read_costs(index, [stream_of(16)], PARTS)


def test_damaged_and_missing_costs_are_told_apart(index: TokenIndex) -> None:
    path = index.folder / COSTS_NAME
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(CorruptInput, match=ABOUT_NAME):
        read_costs(index, [stream_of()], PARTS)
    path.unlink()
    with pytest.raises(MissingInput, match="no stored costs"):
        read_costs(index, [stream_of()], PARTS)


@pytest.mark.parametrize("folder", ["voice", "tokens"])
def test_bundled_costs_are_of_the_bundled_tokens_and_weights(folder: str) -> None:
    about = json.loads((data_dir() / folder / ABOUT_NAME).read_text())
    index = read_index(data_dir() / folder)
    codecs = {name: origin for name, origin in about["origins"].items() if name != "text"}
    for name, origin in codecs.items():
        config = json.loads((data_dir() / "models" / f"{name}_mini" / CONFIG_NAME).read_text())
        assert origin == {"tokens": index.entry(name).sha256, "codec_weights": config["sha256"]}
        assert index.path(name).is_file()
    material = indexed_material(index.folder)
    streams = [material.stream(name, "parallel", material.parts.all, 4) for name in ("units_25hz", "fsq_50hz")]
    runs, _ = read_costs(index, streams, material.parts)
    for run in runs:
        assert (run.learned.shortest_bits.sum(axis=0) <= run.learned.raw_level_bits.sum(axis=0)).all()

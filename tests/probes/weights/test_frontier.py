from pathlib import Path

import numpy as np
import pandas as pd

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.lm.model_files import LoadedLM
from codecbook.probes.weights.container import Choice
from codecbook.probes.weights.frontier import CodecBench, LmBench, dominated, least, one_scheme, spent_by_loss
from codecbook.probes.weights.moments import Moments, codec_moments, lm_moments
from codecbook.probes.weights.records import CompressedFile
from codecbook.probes.weights.tensors import CODEBOOKS


def table(*rows: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["bits_per_weight", "match"])


def test_a_row_is_dominated_by_one_that_is_smaller_and_keeps_as_much() -> None:
    ours = table((4, 0.9), (8, 0.99))
    assert dominated(table((5, 0.9), (4, 0.9), (3.9, 0.1), (8, 0.995), (9, 0.99), (16, 1.0)), ours, "match") == [
        True, True, False, False, True, False,
    ]  # fmt: skip
    assert dominated(table(), ours, "match") == []
    assert dominated(table((5, 0.9)), table(), "match") == [False]
    assert dominated(table((5, float("nan"))), ours, "match") == [False]


def test_the_least_bits_are_those_of_the_rows_that_are_left() -> None:
    assert least(table((8, 1), (4, 1))) == 4
    assert np.isnan(least(table()))


def test_one_scheme_takes_the_moments_of_columns_where_there_are_any() -> None:
    moments = {"a": Moments(np.ones(2), np.eye(3)), CODEBOOKS: Moments(np.ones(4), np.ones((2, 3, 3)))}
    choose = one_scheme("gptq4_g64", moments, seed=1)
    assert choose("a", "mlp").options["gram"] is moments["a"].columns
    assert choose(CODEBOOKS, "codebook") == choose("b", "mlp") == Choice("gptq4_g64", {"seed": 1})


def test_steps_are_spent_where_moments_are_known() -> None:
    moments = {name: Moments(np.ones(2), np.eye(3)) for name in ("encoder.0", "decoder.0", CODEBOOKS)}
    choose = spent_by_loss(moments, 1e-3, 0.01)
    steps = {name: choose(name, "").options["step"] for name in moments}
    assert steps["encoder.0"] < steps[CODEBOOKS] == 1e-3 < steps["decoder.0"] == 0.01
    assert choose("unknown", "mlp") == Choice()
    nothing = spent_by_loss(moments, 0.0, 0.01)
    assert nothing("encoder.0", "") == nothing(CODEBOOKS, "") == Choice()
    assert nothing("decoder.0", "").scheme == "uniform"
    coarse, fine = (spent_by_loss(moments, step, None)("decoder.0", "").options for step in (1e-2, 1e-5))
    assert coarse["step"] == 1e-2
    assert max(coarse["damping"]) > max(fine["damping"])


def test_a_codec_is_measured_as_whoever_loads_it_finds_it(
    codec: Codec, codec_folder: Path, clip: Clip, tmp_path: Path
) -> None:
    bench = CodecBench(codec, codec_folder, [clip, Clip(clip.samples[:, ::-1].copy(), 24_000)], tmp_path)
    rows = pd.DataFrame(
        [
            bench.measure("lossless", one_scheme("lossless")),
            bench.measure("fine", spent_by_loss(codec_moments(codec, [clip]), 1e-3)),
            bench.measure("int4_row", one_scheme("int4_row")),
        ]
    ).set_index("scheme")
    assert (rows.mismatch_bytes == 0).all()
    assert rows.loc["lossless", ["changed", "si_sdr_db", "match_all"]].tolist() == [0, 0, 1]
    assert rows.loc["fine", "match_all"] > rows.loc["int4_row", "match_all"]
    assert rows.loc["fine", "bits_per_weight"] < rows.loc["lossless", "bits_per_weight"]
    assert (rows.match_all_low <= rows.match_all).all()
    assert (rows.match_all <= rows.match_all_high).all()
    assert "si_sdr_db" not in bench.measure("lossless", one_scheme("lossless"), sound=False)
    schemes = {r.scheme for r in CompressedFile(tmp_path / "fine.cbw").records if r.folded}
    assert schemes == {"uniform"}


def test_a_language_model_is_measured_so_too(
    lm: LoadedLM, lm_folder: Path, codes: list[np.ndarray], tmp_path: Path
) -> None:
    bench = LmBench(lm, lm_folder, codes, tmp_path)
    known = lm_moments(lm.model, codes)
    rows = pd.DataFrame(
        [
            bench.measure("lossless", one_scheme("lossless")),
            bench.measure("coarse", spent_by_loss(known, 0.05, None)),
            bench.measure("fine", spent_by_loss(known, 1e-4, None)),
        ]
    ).set_index("scheme")
    assert (rows.mismatch_bytes == 0).all()
    assert rows.loc["lossless", ["bits_percent", "argmax_match"]].tolist() == [0, 1]
    assert rows.bits_per_weight["coarse"] < rows.bits_per_weight["fine"]
    assert rows.argmax_match["coarse"] < rows.argmax_match["fine"]
    assert np.isnan(rows.whole_windows).all() == (3 * len(codes[-1]) < 225)

"""The weight scheme that CONTRIBUTING.md spells out, added just as it says: on the command line and in the tables."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.codecs.base import Codec
from codecbook.errors import CorruptInput
from codecbook.probes.weights import schemes
from codecbook.probes.weights.__main__ import main
from codecbook.probes.weights.container import bits_per_weight
from codecbook.probes.weights.frontier import CodecBench, one_scheme
from codecbook.probes.weights.schemes import table


@pytest.fixture
def ternary(added: Callable, monkeypatch: pytest.MonkeyPatch) -> table.Scheme:
    module, line = added("A new weight scheme", schemes)
    (scheme,) = eval(f"[{line}]", {"Scheme": table.Scheme, "ternary": module})
    monkeypatch.setitem(table.SCHEMES, scheme.name, scheme)
    return scheme


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 32)])
def test_the_scheme_of_the_text_decodes(ternary: table.Scheme, shape: tuple[int, int]) -> None:
    matrix = 5 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    data = ternary.encode(matrix)
    decoded = ternary.decode(data, shape)
    assert len(data) <= -(-matrix.size // 5) + 2 * shape[0] + 20
    assert all(len(np.unique(row)) <= 3 for row in decoded)
    assert np.linalg.norm(matrix - decoded) <= np.linalg.norm(matrix)
    with pytest.raises(CorruptInput):
        ternary.decode(data[:-1], shape)


def test_the_command_line_and_the_tables_have_it(
    ternary: table.Scheme, codec: Codec, codec_folder: Path, clip: Clip, tmp_path: Path, capsys
) -> None:
    small = tmp_path / "small.cbw"
    assert main(["compress", str(codec_folder), "--scheme", "ternary", "--out", str(small)]) == 0
    assert main(["verify", str(codec_folder), str(small)]) == 0
    assert capsys.readouterr().out.count(" ternary ") > 1
    row = CodecBench(codec, codec_folder, [clip], tmp_path).measure("ternary", one_scheme("ternary"))
    assert row["bits_per_weight"] == bits_per_weight(tmp_path / "ternary.cbw") < 4
    assert row["changed"] > 0
    assert row["mismatch_bytes"] == 0

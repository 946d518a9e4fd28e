"""The codec itself in cells: exact tokens and samples agree, and a stand-in that rounds does not."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codecbook.audio import Clip
from codecbook.codecs import load_codec
from codecbook.codecs.exact.spec import network_from
from codecbook.errors import CorruptInput
from codecbook.probes.determinism import codec_steps, matrix
from codecbook.probes.determinism.case import AUDIO_NAME, Case
from codecbook.probes.determinism.case_maker import make_case
from codecbook.probes.determinism.cells import BASELINE, Cell
from codecbook.probes.determinism.codec_steps import (
    ExactCodec,
    FloatCodec,
    ReferenceCodec,
    codec_part,
    load_network,
    to_integers,
)
from codecbook.probes.determinism.compare import CODECS, CellResult, CodecResult

FULL = Cell("full", mode="full")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray, model_folder: Path) -> Case:
    """A case with recordings of a second, cut to whole frames, and what the baseline makes of them."""
    folder = tmp_path_factory.mktemp("recorded") / "case"
    case = make_case(folder, codes=codes, model_folder=model_folder, recordings=2, recording_s=1.01)
    assert all((part.status, part.tokens) == ("ran", 2 * 75 * 16) for part in codec_part(case, BASELINE, True).values())
    return case


def found(case: Case, cell: Cell) -> CellResult:
    """Return a cell's result with nothing but its codec."""
    return CellResult(cell, "ran", codec=codec_part(case, cell))


@pytest.mark.parametrize(
    "cell",
    [
        BASELINE, FULL, Cell("batch", batch=2), Cell("full batch", mode="full", batch=2),
        Cell("cast", precision="autocast", mode="full"), Cell("numpy", backend="numpy"),
    ],
    ids=lambda cell: cell.name,
)  # fmt: skip
def test_the_exact_codec_never_differs(recorded: Case, cell: Cell) -> None:
    part = codec_part(recorded, cell)["codec_exact"]
    assert (part.status, part.tokens, part.samples) == ("ran", 2400, 48_000)
    assert (part.tokens_differing, part.samples_differing, part.snr_db) == (0, 0, None)


def test_the_float_codec_runs_beside_it(recorded: Case) -> None:
    """Whether a token of it differs depends on the machine; lower precision does for sure."""
    onnx = codec_part(recorded, Cell("onnx", backend="onnx"))
    assert onnx["codec_float32"].largest < 1e-4
    assert "ONNX" in onnx["codec_exact"].reason
    cast = codec_part(recorded, Cell("cast", precision="autocast", mode="full"))["codec_float32"]
    assert 0 < cast.tokens_differing == sum(cast.codebooks_differing)
    assert cast.snr_db is not None


def test_a_stand_in_that_rounds_is_found(recorded: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The float codec under the exact one's name breaks the claim."""
    baseline = found(recorded, BASELINE)
    assert matrix.codec_agrees([baseline, found(recorded, Cell("numpy", backend="numpy"))])
    network = load_codec("encodec_24khz").module
    monkeypatch.setattr(codec_steps, "ExactCodec", lambda integers, piece, hop, device: FloatCodec(network, piece, hop))
    results = [baseline, found(recorded, FULL)]
    assert matrix.codec_agrees(results) is False
    counts = matrix.codec_counts(results)
    assert (counts["codec_exact.cells_run"], counts["codec_exact.cells_differing"]) == (1, 1)
    assert 0 < counts["codec_exact.tokens_differing"] <= counts["codec_exact.tokens"] == 2400
    table = matrix.tabulate_codec(results).set_index(["cell", "coder"])
    assert table.outcome["full", "codec_exact"] == matrix.DIFFERS
    assert table.outcome["baseline", "codec_exact"] == matrix.SAME


def test_a_claim_needs_a_cell_that_computes_otherwise() -> None:
    same = dict.fromkeys(CODECS, CodecResult("ran", tokens=4, codebooks_differing=[0], samples=9))
    first, alike = CellResult(BASELINE, "ran", codec=same), CellResult(Cell("alike"), "ran", codec=same)
    assert matrix.codec_agrees([first, alike]) is None
    floats = same | {
        "codec_float32": CodecResult("ran", tokens=4, codebooks_differing=[0], samples=9, samples_differing=2)
    }
    other = CellResult(Cell("other"), "ran", codec=floats)
    assert matrix.codec_agrees([first, alike, other])
    lost, gone = CellResult(Cell("lost"), "crashed", "end"), CellResult(Cell("gone"), "skipped", "no GPU")
    table = matrix.tabulate_codec([first, other, lost, gone]).set_index(["cell", "coder"])
    assert list(table.outcome["other"]) == [matrix.CLOSE, matrix.SAME, matrix.SAME]
    assert (set(table.outcome["lost"]), set(table.outcome["gone"])) == ({matrix.FAILED}, {matrix.SKIPPED})
    assert matrix.tabulate_codec([CellResult(BASELINE, "ran")]).empty


def test_tokens_and_samples_are_the_codecs_own(recorded: Case) -> None:
    audio = np.load(recorded.folder / AUDIO_NAME)
    for exact in (False, True):
        codec: Any = load_codec("encodec_24khz", exact=exact)
        whole = ExactCodec(codec.network, 0, 320) if exact else FloatCodec(codec.module, 0, 320)
        tokens = codec.encode(Clip(audio[0], 24_000))
        np.testing.assert_array_equal(whole.encode(audio[:1])[0], np.stack(tokens.codes))
        np.testing.assert_array_equal(whole.decode(np.stack(tokens.codes)[None])[0], codec.decode(tokens).samples)
    assert to_integers(np.array([0.5**21, -(0.5**21)]), 20).tolist() == [1, 0]


def test_numpy_alone_comes_to_the_same(recorded: Case, numpy_alone: Callable[..., str]) -> None:
    code = (
        "import json\nfrom dataclasses import asdict\nfrom codecbook.probes.determinism.case import open_case\n"
        "from codecbook.probes.determinism.cells import Cell\n"
        "from codecbook.probes.determinism.codec_steps import codec_part\n"
        "found = codec_part(open_case(sys.argv[1]), Cell('bare', backend='numpy', processor='emulated'))\n"
        "print(json.dumps({name: asdict(part) for name, part in found.items()}))"
    )
    parts = {name: CodecResult(**part) for name, part in json.loads(numpy_alone(code, str(recorded.folder))).items()}
    exact = parts.pop("codec_exact")
    assert (exact.tokens, exact.tokens_differing, exact.samples, exact.samples_differing) == (1200, 0, 24_000, 0)
    assert {part.status for part in parts.values()} == {"skipped"}


def test_torch_and_numpy_are_enough_for_a_cell(recorded: Case, tmp_path: Path) -> None:
    """What `tools/foreign.py` puts into a root has none of the libraries that are taken away here."""
    code = (
        "import sys\nfor name in ('encodec', 'matplotlib', 'onnx', 'pandas', 'pyarrow', 'pydantic', 'scipy', 'snac',\n"
        "             'soundfile', 'soxr', 'transformers'):\n    sys.modules[name] = None\n"
        "from codecbook.probes.determinism import worker\nsys.exit(worker.main(sys.argv[1:]))"
    )
    cell, out = json.dumps({"name": "foreign", "mode": "full", "processor": "arm64"}), tmp_path / "out.json"
    case = shutil.copytree(recorded.folder, tmp_path / "case", ignore=shutil.ignore_patterns("baseline"))
    command = [sys.executable, "-c", code, str(case), cell, str(out), "--write-baseline"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert {part["status"] for part in found["coders"].values()} == {"ran"}
    assert found["codec"]["codec_exact"]["status"] == "ran"


def test_what_a_cell_lacks_is_said(recorded: Case) -> None:
    cells = [Cell("numba", backend="numba"), Cell("compiled", compiled=True, mode="full")]
    reasons = {part.reason for cell in cells for part in codec_part(recorded, cell).values()}
    assert reasons == {"no numba evaluator of this codec", "torch.compile is tried on language models alone"}


def test_another_network_is_refused(recorded: Case) -> None:
    network = load_network(recorded)
    assert network_from(network.config, network.arrays).sha256 == network.sha256
    other = replace(recorded, identities={"exact codec": "0" * 64})
    with pytest.raises(CorruptInput, match="another exact codec"):
        load_network(other)
    with pytest.raises(CorruptInput, match="no parts of an exact codec"):
        network_from({"kind": "Path"}, {})
    assert ReferenceCodec(network).encode(np.zeros((1, 1, 640))).shape == (1, 16, 2)

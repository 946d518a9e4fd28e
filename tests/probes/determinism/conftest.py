"""A case of a tiny model, with its baseline's answers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import save_exact
from codecbook.lm.model_files import save_lm
from codecbook.lm.models import RVQTransformer, RVQTransformerConfig
from codecbook.probes.determinism.case import Case
from codecbook.probes.determinism.case_maker import make_case
from codecbook.probes.determinism.cells import BASELINE
from codecbook.probes.determinism.worker import run_cell

K, V, N, T = 2, 24, 3, 7


@pytest.fixture(autouse=True)
def _settings_as_before() -> Iterator[None]:
    threads, backend = torch.get_num_threads(), torch.backends.mkldnn
    enabled = backend.enabled  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    backend.enabled = enabled  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="session")
def codes() -> np.ndarray:
    return np.random.default_rng(1).integers(0, V, size=(N, T, K))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, codes: np.ndarray) -> Path:
    return save_small(tmp_path_factory.mktemp("model"), codes, layers=2)


@pytest.fixture
def shallow_folder(tmp_path: Path, codes: np.ndarray) -> Path:
    """A model of one layer, for what takes long for each."""
    return save_small(tmp_path / "shallow", codes, layers=1)


def save_small(folder: Path, codes: np.ndarray, layers: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = RVQTransformerConfig(
            (V,) * K, dim=16, layers=layers, heads=2, hidden=24, window_frames=5, head_dim=12, head_hidden=16
        )
        model = RVQTransformer(config).eval()
    save_lm(folder, model, {})
    save_exact(folder / "exact", export_exact(model, list(codes)))
    return folder


@pytest.fixture
def fresh(tmp_path: Path, model_folder: Path, codes: np.ndarray) -> Case:
    """A case without any answers."""
    return make_case(tmp_path / "fresh", codes=codes, model_folder=model_folder)


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, codes: np.ndarray) -> Case:
    """A case with its baseline's answers; not to be changed."""
    folder = tmp_path_factory.mktemp("case")
    case = make_case(folder / "case", codes=codes, model_folder=model_folder)
    run_cell(case, BASELINE, folder / "baseline.json", write_baseline=True)
    return case

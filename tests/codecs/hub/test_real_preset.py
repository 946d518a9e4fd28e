"""The preset `real` from the first download to a run without a network, on weights of full size."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codecbook.codecs.adapters.encodec import CHECKPOINTS
from codecbook.codecs.registry import DOWNLOAD_MB

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("run_all.sh", "Snakefile", "requirements.lock", "workflow", "profiles", "config", "lib", "notebooks", "data")


@pytest.fixture
def checkout(served, tmp_path, publish_full_size):
    """Return a checkout that expects the hashes of the EnCodec files that are served, and one clip a codec."""
    root = tmp_path / "checkout"
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        root.mkdir(exist_ok=True)
        copy(ROOT / part, root / part)
    adapter, preset = root / "lib/codecbook/codecs/adapters/encodec.py", root / "config/real.yaml"
    code, parameters = adapter.read_text(), preset.read_text()
    for name in DOWNLOAD_MB.keys() - {"neucodec"}:
        file = publish_full_size(served, name, tmp_path / name)
        code = code.replace(CHECKPOINTS.get(name, " "), file.name if name in CHECKPOINTS else " ")
    adapter.write_text(code)
    preset.write_text(parameters.replace("weights: pretrained", "weights: pretrained, max_clips: 1"))
    return root


def run(root, environment, *arguments):
    command = ["bash", str(root / "run_all.sh"), "--preset", "real", *arguments]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(root / "lib"), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(
    "CODECBOOK_FULL_SIZE" not in os.environ, reason="takes half an hour; set CODECBOOK_FULL_SIZE to run it"
)
@pytest.mark.timeout(7200)
def test_the_preset_fetches_once_and_then_runs_without_a_network(served, checkout, tmp_path):
    said = run(checkout, served.variables(tmp_path / "cache"))
    results = checkout / "reports/real/results"
    assert {path.stem for path in results.glob("*.json")} >= {"00_index", "01_tokenize", "01b_drift_passport"}
    assert "running 01b_drift_passport" in said
    assert "running 02_entropy_model" not in said
    fetched = served.sent_bytes
    assert fetched == sum(file.stat().st_size for file in served.files.values()), "each once, by two stages at a time"
    page = (checkout / "reports/real/01_tokenize.html").read_text()
    assert all(f"pretrained: {repository}" in page for repository in served.repositories)
    nowhere = served.variables(tmp_path / "cache") | {"HTTPS_PROXY": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    before = json.loads((results / "01_tokenize.json").read_text())
    run(checkout, nowhere, "--fresh", "01_tokenize")
    after = json.loads((results / "01_tokenize.json").read_text())
    assert served.sent_bytes == fetched
    assert {key: value for key, value in after.items() if key.endswith("actual_kbps")} == {
        key: value for key, value in before.items() if key.endswith("actual_kbps")
    }

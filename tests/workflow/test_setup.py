"""The set-up of run_all.sh, with a stand-in for Python that writes down what it is asked to do."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("awk", "bash", "cat", "cmp", "cp", "dirname", "grep", "mkdir", "mktemp", "rm", "sed", "tail", "tee")

# records each call; makes environments that hold itself; fails where the file "fail-on" holds a word of the call
STAND_IN = """\
#!/bin/bash
here="{folder}"
if [ "$1" = -P ]; then  # the question whether codecbook is installed
    case "$0" in */.venv/*) exit 0 ;; esac
    exit 1
fi
[ "$1" = -c ] && exit "$(cat "$here/too-old" 2>/dev/null || echo 0)"
echo "$*" >> "$here/calls"
case "$*" in *--requirement*)
    echo "Collecting large"
    echo "  Downloading large-1.0.whl (55.0 MB)"
    echo "  Downloading small-1.0.whl (9 kB)" ;;
esac
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "${{@: -1}}/bin"
    cp "$here/python3" "${{@: -1}}/bin/python"
fi
if [ -s "$here/fail-on" ]; then
    case "$*" in *"$(cat "$here/fail-on")"*)
        cat "$here/said" 2>/dev/null
        echo "ERROR: no route to host"
        exit 1 ;;
    esac
fi
exit 0
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout without an environment, and a PATH on which the stand-in is the only Python."""

    root: Path
    tools: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(self.root / "run_all.sh"), *arguments],
            env={"PATH": str(self.tools), **environment},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """Return what the stand-in has been asked to do since the last time."""
        path = self.tools / "calls"
        lines = path.read_text().replace(str(self.root), "ROOT").splitlines() if path.exists() else []
        path.write_text("")
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, tools = tmp_path / "a checkout", tmp_path / "tools"
    for folder in (root / "lib" / "codecbook", tools):
        folder.mkdir(parents=True)
    shutil.copy2(ROOT / "run_all.sh", root / "run_all.sh")
    (root / "requirements.lock").write_text("numpy==2.4.6\ntorch==2.13.0\n")
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))
    stand_in = tools / "python3"
    stand_in.write_text(STAND_IN.format(folder=tools))
    stand_in.chmod(0o755)
    (tools / "env").symlink_to(shutil.which("env") or "/usr/bin/env")
    return Checkout(root, tools)


def test_the_first_call_installs_and_the_second_does_not(checkout: Checkout) -> None:
    done = checkout.run("--jobs", "1")
    assert done.returncode == 0
    assert "    downloading large-1.0.whl (55.0 MB)\n" in done.stdout
    assert "small" not in done.stdout
    calls = checkout.calls()
    assert calls[0] == "ROOT/workflow/run.py --check --jobs 1"
    assert "-m venv --clear ROOT/.venv" in calls
    installs = [call.split("--progress-bar off ")[1] for call in calls if "--progress-bar" in call]
    assert installs == [
        "--constraint ROOT/requirements.lock torch==2.13.0",
        "--no-deps --requirement ROOT/requirements.lock",
        "--no-deps --no-build-isolation --editable ROOT",
    ]
    assert calls[-1] == "ROOT/workflow/run.py --jobs 1"

    checkout.run()
    assert checkout.calls() == ["ROOT/workflow/run.py"]

    (checkout.root / "requirements.lock").write_text("numpy==2.4.7\ntorch==2.13.0\n")
    checkout.run()
    assert any("--requirement" in call for call in checkout.calls()), "a changed lock installs again"


def test_an_interrupted_installation_is_resumed(checkout: Checkout) -> None:
    (checkout.tools / "fail-on").write_text("--requirement")
    done = checkout.run()
    assert done.returncode == 1
    assert "no route to host" in done.stderr
    assert "Call again to go on from here." in done.stderr
    assert "ROOT/workflow/run.py" not in checkout.calls()

    (checkout.tools / "fail-on").write_text("")
    assert checkout.run().returncode == 0
    calls = checkout.calls()
    assert not any("venv" in call.split()[:2] for call in calls), "the environment itself is kept"
    assert calls[-1] == "ROOT/workflow/run.py"


def test_without_a_network_it_says_so(checkout: Checkout) -> None:
    (checkout.tools / "fail-on").write_text("--constraint")
    (checkout.tools / "said").write_text("WARNING: Retrying after connection broken by 'NewConnectionError'\n")
    done = checkout.run()
    assert done.returncode == 1
    assert "run_all.sh: The package index cannot be reached (all of it: " in done.stderr
    assert "or a mirror (PIP_INDEX_URL), and call again to go on from here." in done.stderr


def test_pesq_may_fail_to_build(checkout: Checkout) -> None:
    (checkout.tools / "fail-on").write_text("pesq==")
    done = checkout.run()
    assert done.returncode == 0
    assert "pesq was not installed" in done.stdout


def test_a_missing_python_is_named_with_its_remedy(checkout: Checkout) -> None:
    (checkout.tools / "too-old").write_text("1")
    done = checkout.run()
    assert done.returncode == 2
    assert "Python 3.11 or later is needed" in done.stderr
    assert not (checkout.root / ".venv").exists()


def test_a_python_that_is_named_is_taken_or_refused(checkout: Checkout) -> None:
    for named in ("none/python", str(checkout.root)):
        done = checkout.run(PYTHON=named)
        assert done.returncode == 2
        assert f"PYTHON is '{named}', which is no Python 3.11 or later; correct it" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (checkout.root / ".venv").exists()
    assert checkout.calls() == []
    assert checkout.run(PYTHON=str(checkout.tools / "python3")).returncode == 0


def test_the_checkout_of_somebody_else_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    checkout.tools.chmod(0o777)  # where the stand-in notes its calls
    checkout.root.chmod(0o555)
    somebody = 65534 if os.geteuid() == 0 else None  # root may write anywhere
    parents = [path for path in checkout.root.parents if path.stat().st_uid == os.geteuid() and path != Path("/")]
    modes = [path.stat().st_mode for path in parents]
    try:
        for path, mode in zip(parents, modes, strict=True):
            path.chmod(mode | 0o011)
        done = subprocess.run(
            [str(checkout.root / "run_all.sh")],
            env={"PATH": str(checkout.tools)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            user=somebody,
        )
    finally:
        for path, mode in zip(parents, modes, strict=True):
            path.chmod(mode)
    assert done.returncode == 2, done.stderr
    venv = checkout.root / ".venv"
    assert done.stderr == (
        f"run_all.sh: {venv} is out of date or not there, and you cannot write to it; use a checkout of your own.\n"
    )
    assert not any("venv" in call for call in checkout.calls())


def test_lab_starts_as_root_too(checkout: Checkout) -> None:
    checkout.run("lab", "--no-browser")
    root = "--allow-root " if os.geteuid() == 0 else ""
    settings = "--ServerApp.root_dir=ROOT --LabApp.default_url=/lab/tree/notebooks/00_index.ipynb "
    settings += "--LabApp.app_settings_dir=ROOT/config/lab"
    assert checkout.calls()[-1] == f"-m jupyterlab {settings} {root}--no-browser"


def test_help_needs_no_environment(checkout: Checkout) -> None:
    for arguments in (["--help"], ["-h"], ["01_tokenize", "--help"]):
        done = checkout.run(*arguments)
        assert done.returncode == 0
        assert "--preset" in done.stdout
    assert not checkout.calls()


def test_the_script_is_executable() -> None:
    assert os.access(ROOT / "run_all.sh", os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ("", ["ok", "ok", "ok", "ok"]),
        ("ruff check", ["ok", "failed", "ok", "ok"]),
        ("pyright", ["ok", "ok", "ok", "failed"]),
    ],
)
def test_test_runs_every_check_and_reports_each(checkout: Checkout, failing: str, expected: list[str]) -> None:
    checkout.run("lab")
    checkout.calls()
    (checkout.tools / "fail-on").write_text(failing)
    done = checkout.run("test", "-k", "tokens")
    assert done.returncode == int("failed" in expected), done.stderr
    calls = checkout.calls()
    assert calls[:2] == ["-m ruff format --check .", "-m ruff check ."]
    assert sorted(calls[2:]) == [  # side by side
        "-m pyright --pythonpath ROOT/.venv/bin/python",
        "-m pytest --numprocesses logical --maxprocesses 4 --dist worksteal -k tokens",
    ]
    states = [line.split()[0] for line in done.stdout.split("Summary:")[1].strip().splitlines()]
    assert states == expected

"""Provenance: what a figure was made with, so that a reader can make it again or see why it differs."""

import html
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cpuinfo
from IPython.display import HTML, display

from codecbook.paths import repository_dir

_PACKAGES = (
    "codecbook", "torch", "numpy", "scipy", "numba", "soxr", "soundfile", "encodec", "snac", "transformers",
    "pyarrow", "pandas",
)  # fmt: skip


def checkout() -> dict[str, Any]:
    """Return ``git_commit`` and ``git_dirty`` (files differ from it) of the checkout, both None outside of one."""
    status = _git("status", "--porcelain")
    return {"git_commit": _git("rev-parse", "HEAD"), "git_dirty": None if status is None else bool(status)}


def collect(parameters: dict[str, Any], started: datetime, code: Mapping[str, Any]) -> dict[str, Any]:
    """Describe this process, machine and checkout; times are in seconds, memory in MB of 10^6 bytes.

    `started` is when the stage began, timezone-aware, and `code` what `checkout` returned then.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # else in KiB
    return {
        **code,
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := installed_version(name))},
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": _threads(),
        "device": _device(parameters),
        "parameters": parameters,
        "seed": parameters.get("seed"),
        "inputs": os.environ.get("CODECBOOK_INPUTS", ""),  # a digest of the files that parameters name, in a batch run
        "started_utc": started.astimezone(UTC).isoformat(timespec="seconds"),
        "wall_s": round((datetime.now(UTC) - started).total_seconds(), 3),
        "peak_memory_mb": round(peak / 1e6, 1),
    }


def show(facts: Mapping[str, Any]) -> None:
    """Display what `collect` returned as a folded table below its one-line summary."""
    shown = {
        "code": commit_text(facts),
        "parameters": ", ".join(f"{name} = {value!r}" for name, value in facts["parameters"].items()) or "none",
        "seed": str(facts["seed"]),
        "device": f"{facts['device']}; {facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads",
        "system": f"{facts['os']}, Python {facts['python']}",
        "packages": ", ".join(f"{name} {version}" for name, version in facts["packages"].items()),
        "started (UTC)": facts["started_utc"],
        "wall time": f"{facts['wall_s']:.1f} s",
        "peak memory": f"{facts['peak_memory_mb']:.0f} MB",
    }
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in shown.items()
    )
    summary = f"{commit_text(facts)}, {facts['wall_s']:.1f} s, {facts['device']}, seed {facts['seed']}"
    display(
        HTML(
            f'<details class="provenance"><summary>Provenance: {html.escape(summary)}</summary>'
            f'<div class="scroll"><table><tbody>{rows}</tbody></table></div></details>'
        )
    )


def commit_text(facts: Mapping[str, Any]) -> str:
    """Return a run's commit in words, from what `checkout` said, with a note where files differed from it."""
    if facts["git_commit"] is None:
        return "commit unknown (no git checkout)"
    return f"commit {facts['git_commit'][:10]}" + (" with local changes" if facts["git_dirty"] else "")


def _git(*arguments: str) -> str | None:
    """Return git's answer about the checkout, None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(repository_dir()), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installed_version(package: str) -> str:
    """Return the version of an installed package, empty where it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    """Return the processor's name; cpuinfo, which knows more places than this one, takes a second."""
    facts = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)", facts.read_text(), re.MULTILINE) if facts.is_file() else None
    return (named[1] if named else cpuinfo.get_cpu_info().get("brand_raw")) or platform.processor() or "unknown"


def _threads() -> int:
    """Return how many threads torch may use, or the cores open to this process where torch is not loaded."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device(parameters: dict[str, Any]) -> str:
    device = str(parameters.get("device", "cpu"))
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device

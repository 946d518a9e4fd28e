"""Signs of life of stages that take long: every half minute, where each one is, and what it printed last."""

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEARTBEAT_S = 30.0
_TICK_S = 1.0
_SHOWN_CHARACTERS = 90  # of the last line
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class _Stage:
    started_s: float
    executed: Path
    log: Path
    before_s: float  # how long it took in the run before, 0 where that is not known


class Heartbeat:
    """Says of each running stage at which cell it is, for how long it has run, and the last line that it printed."""

    def __init__(self) -> None:
        self._running: dict[str, _Stage] = {}
        self._due_s: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def begin(self, stage: str, now_s: float, executed: Path, log: Path) -> None:
        """Watch a stage from now on; `executed` is the copy that its job keeps up to date, yet that of the last run."""
        self._running[stage] = _Stage(now_s, executed, log, _duration_s(executed))
        self._due_s[stage] = now_s + HEARTBEAT_S
        if self._thread is None:
            self._thread = threading.Thread(target=self._tick, daemon=True)
            self._thread.start()

    def end(self, stage: str) -> None:
        """Watch a stage no longer."""
        self._running.pop(stage, None)

    def beat(self, now_s: float) -> None:
        """Print a line for each stage of which nothing was said for the last half minute."""
        for name, stage in list(self._running.items()):
            if now_s >= self._due_s[name]:
                self._due_s[name] = now_s + HEARTBEAT_S
                before = f" of about {stage.before_s:.0f} s in the last run" if stage.before_s else ""
                parts = [f"{_place(stage.executed)}, {now_s - stage.started_s:.0f} s{before}", _last_line(stage.log)]
                print(f"      {name}: {'; '.join(filter(None, parts))}; log: {stage.log}", flush=True)

    def _tick(self) -> None:
        while True:
            time.sleep(_TICK_S)
            self.beat(time.time())


def _place(executed: Path) -> str:
    """Say at which of its code cells a notebook is, by what papermill has noted in the executed copy."""
    cells = _read(executed).get("cells")
    if cells is None:  # not begun, or being written this moment
        return "running" if executed.is_file() else "waiting to begin"
    code = [cell["metadata"].get("papermill", {}).get("status") for cell in cells if cell["cell_type"] == "code"]
    done = sum(status == "completed" for status in code)
    return f"cell {min(done + 1, len(code))} of {len(code)}"


def _duration_s(executed: Path) -> float:
    """Return how long an executed notebook took, 0 where there is none that came to its end."""
    run = _read(executed).get("metadata", {}).get("papermill", {})
    return 0.0 if run.get("exception") else run.get("duration") or 0.0


def _read(executed: Path) -> dict[str, Any]:
    try:
        return json.loads(executed.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _last_line(log: Path) -> str:
    """Return the last line of a log in quotes, shortened; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    line = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
    return f"“{line[:_SHOWN_CHARACTERS]}{'…' * (len(line) > _SHOWN_CHARACTERS)}”" if line else ""

"""Signs of life of stages that take long: every half minute, where each one is."""

import json
import threading
import time
from pathlib import Path

HEARTBEAT_S = 30.0
_TICK_S = 1.0


class Heartbeat:
    """Says of each running stage which cell it is at, for how long it has run, and where its log is."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[float, Path, Path]] = {}  # by stage: start, executed copy, log
        self._due_s: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def begin(self, stage: str, now_s: float, executed: Path, log: Path) -> None:
        """Watch a stage from now on; `executed` is the copy that its job keeps up to date."""
        self._running[stage] = now_s, executed, log
        self._due_s[stage] = now_s + HEARTBEAT_S
        if self._thread is None:
            self._thread = threading.Thread(target=self._tick, daemon=True)
            self._thread.start()

    def end(self, stage: str) -> None:
        """Watch a stage no longer."""
        self._running.pop(stage, None)

    def beat(self, now_s: float) -> None:
        """Print a line for each stage of which nothing was said for the last half minute."""
        for stage, (started_s, executed, log) in list(self._running.items()):
            if now_s >= self._due_s[stage]:
                self._due_s[stage] = now_s + HEARTBEAT_S
                print(f"      {stage}: {_place(executed)}, {now_s - started_s:.0f} s; log: {log}", flush=True)

    def _tick(self) -> None:
        while True:
            time.sleep(_TICK_S)
            self.beat(time.time())


def _place(executed: Path) -> str:
    """Say at which of its code cells a notebook is, by what papermill has noted in the executed copy."""
    try:
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):  # not begun, or being written this moment
        return "running" if executed.is_file() else "waiting to begin"
    code = [cell["metadata"].get("papermill", {}).get("status") for cell in cells if cell["cell_type"] == "code"]
    done = sum(status == "completed" for status in code)
    return f"cell {min(done + 1, len(code))} of {len(code)}"

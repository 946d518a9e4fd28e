"""A Snakemake logger that says one line per stage, ``[2/4] ok 04_bitstream 3s``, and signs of life between."""

import logging
import re
from pathlib import Path

from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_codecbook.heartbeat import Heartbeat

# what the engine says about a failed stage, beside the line that names its error
REPEATED = ("CalledProcessError", "At least one job did not complete successfully")

# how the engine says that parameters have changed: all those that differ, before and now
CHANGED = re.compile(r"Params have changed since last execution: .*?before: (.*?) now: (.*?)\s*$", re.DOTALL)

# The plugin for Slurm asks ever less often how its jobs are, at last every three minutes, and notices their ends so
# much later; one question is for all jobs.
MOST_BETWEEN_QUESTIONS_S = 5.0
_planned = RemoteExecutor.next_seconds_between_status_checks
RemoteExecutor.next_seconds_between_status_checks = property(
    lambda executor: min(_planned.__get__(executor), MOST_BETWEEN_QUESTIONS_S), _planned.__set__
)


class LogHandler(LogHandlerBase):
    """Prints the start and end of each stage, why one failed, and the engine's own errors."""

    # the interface declares properties; plain attributes do
    writes_to_stream = True  # pyright: ignore[reportAssignmentType]
    writes_to_file = False  # pyright: ignore[reportAssignmentType]
    has_filter = True  # pyright: ignore[reportAssignmentType]
    has_formatter = True  # pyright: ignore[reportAssignmentType]
    needs_rulegraph = False  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        logging.raiseExceptions = (
            False  # else a full disk is told by a traceback for every line of the engine's own log
        )
        self._stages: dict[int, str] = {}  # by job id
        self._started_s: dict[int, float] = {}
        self._heartbeat = Heartbeat()
        self._total = 0
        self._done = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a person who waits for the run wants to know, and nothing else."""
        event = getattr(record, "event", None)
        fields = record.__dict__
        if event == LogEvent.RUN_INFO:
            stats = fields.get("stats", {})
            self._total = stats.get("total", 0) - stats.get("all", 0)
        elif event == LogEvent.JOB_INFO and fields["rule_msg"]:
            self._announce(record)
        elif event == LogEvent.JOB_FINISHED and fields["job_id"] in self._stages:
            self._say_end("ok", fields["job_id"], record.created)
        elif event == LogEvent.JOB_ERROR and fields["jobid"] in self._stages:
            self._say_end("failed", fields["jobid"], record.created)
            log = _file(fields["log"], ".log")
            print(f"      {_last_line(log)}", flush=True)
        elif event == LogEvent.ERROR and not any(words in record.getMessage() for words in REPEATED):
            print(record.getMessage(), flush=True)

    def _announce(self, record: logging.LogRecord) -> None:
        fields = record.__dict__
        stage = fields["rule_msg"]
        self._stages[fields["jobid"]] = stage
        self._started_s[fields["jobid"]] = record.created
        if self.common_settings.dryrun:
            print(f"would run {stage}: {_plain(fields['reason'])}", flush=True)
        else:
            print(f"      running {stage}", flush=True)
            if "stage" in fields["wildcards"]:
                executed, log = (_file(fields["log"], suffix) for suffix in (".ipynb", ".log"))
                self._heartbeat.begin(stage, record.created, executed, log)

    def _say_end(self, state: str, job: int, now_s: float) -> None:
        self._heartbeat.end(self._stages[job])
        self._done += 1
        took_s = now_s - self._started_s[job]
        print(f"[{self._done}/{self._total}] {state} {self._stages[job]} {took_s:.0f}s", flush=True)


def _file(named: list[str], suffix: str) -> Path:
    """Return the file with a suffix among those that the engine names, some with a remark behind."""
    return next(Path(name.rpartition(suffix)[0] + suffix) for name in named if suffix in name)


def _plain(reason: str) -> str:
    """Return why a stage would run, in fewer words than the engine's; of what is a digest, what it is of."""
    found = CHANGED.search(reason)
    if not found:
        return reason
    before, now = (re.sub(r": [0-9a-f]{16}'", "'", part).replace("'", "") for part in found.groups())
    return f"changed since the last run: {now}" if before == now else f"parameters were {before}, and are {now}"


def _last_line(log: Path) -> str:
    """Return the last line of a stage's log, where its script says why it failed."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line for line in reversed(lines) if line.strip()), f"no message; see {log}")

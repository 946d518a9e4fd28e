"""Say what this machine has of what the workbook can use: ``./run_all.sh doctor``, which installs and fetches nothing.

Each line says what is there or missing, what the lack costs, and what mends it. Runs without the environment, too, and
then says that it is missing. Exit status: 0 where the notebooks can be run, 1 where they cannot.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from usage import Parser

ROOT = Path(__file__).resolve().parents[1]
EXIT_MISSING = 1
# measured on Linux with two cores: the environment takes 2.7 GB and a run 0.13 GB, its largest stage 1.5 GB of memory
DISK_GB = {"environment": 3.5, "run": 0.5}
MEMORY_GB = 4.0


@dataclass(frozen=True)
class Finding:
    """One line: what is meant, what was found, and where it is missing what that costs, and what mends it."""

    what: str
    found: str
    cost: str = ""
    remedy: str = ""
    needed: bool = False

    @property
    def state(self) -> str:
        """Return ``ok``, ``missing`` (the notebooks cannot run), or ``without`` (something is left out)."""
        return "ok" if not self.cost else ("missing" if self.needed else "without")


def main(arguments: list[str] | None = None) -> int:
    """Print the findings and return the exit status."""
    parser = Parser(prog="./run_all.sh doctor", description=(__doc__ or "").split("\n\n")[0], allow_abbrev=False)
    parser.parse_args(arguments)
    missing = False
    for finding in findings():
        missing |= finding.state == "missing"
        print(f"{finding.state:8} {finding.what}: {finding.found}", flush=True)
        for text in filter(None, (finding.cost, finding.remedy and f"remedy: {finding.remedy}")):
            print(f"           {text}")
    print("The notebooks cannot be run yet; see `missing` above." if missing else "The notebooks can be run.")
    return EXIT_MISSING if missing else 0


def findings() -> Iterator[Finding]:
    """Yield what concerns the machine, and then, where the environment stands, what needs its packages."""
    try:
        from codecbook.book import environment
    except ImportError as error:
        yield _environment(str(error))
        yield from _machine("environment")
        return
    packages = environment.packages()
    others = packages.loc[~packages["as_pinned"], "package"].tolist()
    yield _environment("", others)
    yield from _machine("run")
    for row in environment.optional_tools().to_dict("records"):
        cost = "" if row["here"] else f"left out: {row['serves']}"
        yield Finding(row["tool"], "here" if row["here"] else "not here", cost, row["remedy"])
    yield from _published(environment.published_weights().to_dict("records"))


def _published(rows: list[dict]) -> Iterator[Finding]:
    """Yield a line on each codec whose published weights are here, one on all that can be fetched, and the others."""
    what, cost = "published weights", "left out: what these codecs' authors published; preset `real` needs a network"
    wanted = [row for row in rows if row["megabytes"] and not row["here"]]
    for row in (row for row in rows if row not in wanted):
        yield Finding(f"{what} of {row['codec']}", row["place"], cost if row["remedy"] else "", row["remedy"])
    if wanted:
        sizes = ", ".join(f"{row['codec']} (about {row['megabytes']} MB)" for row in wanted)
        command = "codecbook" if shutil.which("codecbook") else f"{sys.executable} -m codecbook"
        fetch = f"with a network: {command} codecs fetch {' '.join(row['codec'] for row in wanted)}"
        yield Finding(what, f"not here: {sizes}", cost, fetch)


def _environment(error: str, others: list[str] | None = None) -> Finding:
    python = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    if error:
        found = f"{python}, but no codecbook in it ({error})"
        return Finding(
            "environment", found, "nothing can be run", "./run_all.sh sets it up (some minutes, 2.7 GB)", True
        )
    if others:
        found = f"{python}; not as in requirements.lock: {', '.join(others)}"
        remedy = "leave this environment, so that ./run_all.sh makes its own, or install the locked versions"
        return Finding("environment", found, "figures may differ from those of the reports", remedy)
    return Finding("environment", f"{python}, packages as in requirements.lock")


def _machine(purpose: str) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slow = "" if cores > 1 else "stages run one after the other: about twice the time"
    yield Finding("cores", str(cores), slow, "a machine of two cores or more" if slow else "")
    memory_gb = _memory_gb()
    if memory_gb:
        few = "" if memory_gb >= MEMORY_GB else f"two stages at a time may need {MEMORY_GB:g} GB"
        yield Finding("memory", f"{memory_gb:.1f} GB in all", few, "./run_all.sh --jobs 1" if few else "")
    free_gb, needed_gb = shutil.disk_usage(ROOT).free / 1e9, DISK_GB[purpose]
    full = "" if free_gb >= needed_gb else f"{needed_gb:g} GB are needed, and runs would stop half-way"
    yield Finding("disk", f"{free_gb:.1f} GB free", full, f"free some space where {ROOT} lies" if full else "", True)
    try:
        with tempfile.TemporaryFile(dir=ROOT):
            yield Finding("checkout", "can be written to")
    except OSError as error:
        yield Finding("checkout", f"cannot be written to ({error.strerror})", "no environment and no reports",
                      "use a checkout of your own", True)  # fmt: skip


def _memory_gb() -> float:
    """Return the machine's memory in 10^9 bytes; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main())

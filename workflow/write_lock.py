"""Write requirements.lock from the active environment: ``python workflow/write_lock.py``.

Pins what pyproject.toml and encodec need, directly or not, at the versions installed here. Call it after a package was
added to pyproject.toml and installed, or after an upgrade, once the tests pass.
"""

import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

HEADER = """\
# Exact versions, complete except for what torch itself brings; installed with --no-deps, since encodec's metadata asks
# for torchaudio, which nothing here needs. Written by workflow/write_lock.py.
"""
# not in pyproject.toml: encodec for the reason above; setuptools builds the editable install of codecbook
ROOTS_BESIDE_PYPROJECT = ("encodec", "setuptools")
# pesq may fail to install, and run_all.sh tries it by itself; trackers are the choice of those who use them
LEFT_OUT_EXTRAS = ("pesq", "track")
LEFT_OUT_NEEDS = ("torchaudio",)
# needed on other machines only, so not installed on the one that writes the lock
ELSEWHERE = (
    'appnope==0.1.4 ; sys_platform == "darwin"',
    'aiohappyeyeballs==2.7.1 ; python_version == "3.12"',
    'aiohttp==3.14.5 ; python_version == "3.12"',
    'aiosignal==1.4.0 ; python_version == "3.12"',
    'frozenlist==1.8.0 ; python_version == "3.12"',
    'multidict==7.2.1 ; python_version == "3.12"',
    'propcache==0.5.4 ; python_version == "3.12"',
    'yarl==1.25.1 ; python_version == "3.12"',
)


def main() -> None:
    """Write the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *ROOTS_BESIDE_PYPROJECT]
    for extra, requirements in project["optional-dependencies"].items():
        if extra not in LEFT_OUT_EXTRAS:
            declared += requirements
    lines = pins([Requirement(requirement) for requirement in declared])
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(lines) + "\n")


def pins(declared: Iterable[Requirement]) -> list[str]:
    """Return a sorted line for each requirement and all that it needs; a declared marker goes into its line."""
    markers: dict[str, Marker | None] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = [(requirement, requirement.marker) for requirement in declared]
    while pending:
        requirement, marker = pending.pop()
        name = canonicalize_name(requirement.name)
        markers.setdefault(name, marker)
        if (name, frozenset(requirement.extras)) not in seen:
            seen.add((name, frozenset(requirement.extras)))
            pending += [(need, None) for need in needs(name, requirement.extras)]
    lines = [line(name, marker) for name, marker in markers.items()]
    return sorted([*lines, *ELSEWHERE], key=lambda text: text.split("==")[0])


def needs(name: str, extras: Iterable[str]) -> list[Requirement]:
    """Return what an installed package needs on this machine."""
    requirements = [Requirement(text) for text in metadata.requires(name) or []]
    return [
        need
        for need in requirements
        if canonicalize_name(need.name) not in LEFT_OUT_NEEDS
        and (need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)))
    ]


def line(name: str, marker: Marker | None) -> str:
    """Return the pin of an installed package, without a build tag such as ``+cpu``."""
    pin = f"{name}=={Version(metadata.version(name)).public}"
    return f"{pin} ; {marker}" if marker else pin


if __name__ == "__main__":
    main()

"""pyproject.toml, requirements.lock and environment.yml speak of the same packages."""

import ast
import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# installed by environment.yml and the lock; the other extras are optional on some machines
STANDARD = [*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]]
# encodec's own metadata asks for torchaudio, so it cannot stand in pyproject.toml
UNDECLARED = {"encodec"}


def locked() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pinned_version(requirement: Requirement) -> Version:
    (pin,) = requirement.specifier
    assert pin.operator == "==", requirement
    return Version(pin.version)


def by_name(requirements: list[str]) -> dict[str, str]:
    parsed = [Requirement(requirement) for requirement in requirements]
    return {canonicalize_name(item.name): str(item.specifier) for item in parsed}


def test_the_lock_pins_one_public_version_of_each_package() -> None:
    names = []
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            assert pinned_version(requirement).local is None, line
            names.append(canonicalize_name(requirement.name))
    assert names == sorted(set(names))


@pytest.mark.parametrize("declared", [*STANDARD, *EXTRAS["lyra"], *EXTRAS["cluster"]])
def test_every_declared_package_is_locked_at_an_allowed_version(declared: str) -> None:
    requirement = Requirement(declared)
    pin = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned_version(pin)), f"{pin} is not {requirement}"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize(("platform", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")])
def test_what_locked_packages_need_is_locked(platform: str, machine: str, python: str) -> None:
    """The lock is installed without dependencies, so it has to be complete on every machine."""
    target = {
        "sys_platform": platform,
        "platform_system": platform.capitalize(),
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.1",
        "extra": "",
    }
    lock = {name: pin for name, pin in locked().items() if pin.marker is None or pin.marker.evaluate(target)}
    missing = {}
    for name in lock:
        if name in UNDECLARED or name == "torch":  # torch is installed with its dependencies
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            assert lock[name].marker is not None, f"{name} is locked for every machine, but not installed here"
            continue
        for need in map(Requirement, needs):
            wanted = need.marker is None or need.marker.evaluate(target)
            if wanted and canonicalize_name(need.name) not in lock:
                missing[str(need)] = name
    assert missing == {}


def test_what_is_locked_runs_on_the_first_python_that_is_promised() -> None:
    first = PROJECT["requires-python"].removeprefix(">=") + ".0"
    refused = {}
    for name, pin in locked().items():
        if pin.marker is None:
            wanted = importlib.metadata.metadata(name).get("Requires-Python", "")
            if not SpecifierSet(wanted).contains(first):
                refused[name] = wanted
    assert refused == {}


def test_environment_yml_equals_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert by_name(pip["pip"]) == by_name(STANDARD)


def test_every_imported_package_is_declared() -> None:
    """A package that happens to be installed here may be absent elsewhere."""
    everything = [requirement for group in EXTRAS.values() for requirement in group] + PROJECT["dependencies"]
    declared = set(by_name(everything)) | UNDECLARED | {"codecbook"}
    scripts = {
        path.parent.name if path.stem == "__init__" else path.stem
        for folder in ("data", "tests", "workflow")
        for path in (ROOT / folder).rglob("*.py")
    }
    providers = importlib.metadata.packages_distributions()
    undeclared = {}
    for folder in ("lib", "tests", "workflow"):
        for path in (ROOT / folder).rglob("*.py"):
            for module in imported_modules(path) - set(sys.stdlib_module_names) - scripts:
                distributions = {canonicalize_name(name) for name in providers.get(module, [module])}
                if not distributions & declared:
                    undeclared.setdefault(module, str(path.relative_to(ROOT)))
    assert undeclared == {}, undeclared


def imported_modules(path: Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.append(node.module or "")
    return {name.split(".")[0] for name in names}

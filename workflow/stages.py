"""The plan of a run: which notebooks there are, what each needs, and the parameters a preset gives it."""

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from codecbook.book.grid import POINTS, Grid
from codecbook.book.inputs import Inventory, inventory, stage_inputs
from codecbook.book.parameters import Declarations, checked, defaults, read_declarations
from codecbook.errors import UnsupportedInput

ROOT = Path(__file__).resolve().parents[1]
STAGES_FILE = "config/stages.yaml"
SWEEPS = "config/sweeps"


@dataclass(frozen=True)
class Stage:
    """One notebook of the workflow.

    Attributes:
        name: The notebook's stem; in a sweep, ``stem/point``.
        needs: Stages whose results it reads.
        threads: Cores that it computes on.
        memory_mb: Memory that a cluster reserves for it.
        seconds: How long it takes, about: what takes longest starts first.
        last: It sums up: it runs after all others, and builds on those results that are there.
        left_out: It runs only where it is asked for by name, or needed.
        parameters: What replaces the values of its parameters cell, checked, with absolute paths.
        inputs: Files and folders that it takes besides those of the checkout.
    """

    name: str
    needs: tuple[str, ...] = ()
    threads: int = 1
    memory_mb: int = 4000
    seconds: int = 10
    last: bool = False
    left_out: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()

    @property
    def parameters_json(self) -> str:
        """The parameters as one line in a fixed order, so that equal parameters compare equal."""
        return json.dumps(self.parameters, sort_keys=True)

    @property
    def inputs_text(self) -> str:
        """What lies at its inputs, as `--dry-run` shows it where it has changed."""
        return f"files that parameters name: {self.inventory.digest[:16] or 'none'}"

    @cached_property
    def inventory(self) -> Inventory:
        """What lies at its inputs, taken down when it is first asked for."""
        return inventory(self.inputs)


@dataclass(frozen=True)
class Plan:
    """The stages of one preset and where their files lie.

    Attributes:
        preset: The YAML file.
        run_dir: ``reports/<preset>`` or ``reports/<name>``, relative to the root of the checkout.
        stages: By name; every stage stands after those it needs.
        grid: What the page of a sweep shows; None for a run of one preset.
    """

    preset: Path
    run_dir: Path
    stages: Mapping[str, Stage]
    grid: Grid | None = None

    def folder(self, stage: str) -> Path:
        """Return the folder of the run that the stage belongs to, relative to the root: in a sweep, its point's."""
        _, _, point = stage.partition("/")
        return self.run_dir / POINTS / point if point else self.run_dir

    def result(self, stage: str) -> Path:
        """Return where the stage's headline figures lie, relative to the root."""
        return self.folder(stage) / "results" / f"{_stem(stage)}.json"

    def html(self, stage: str) -> Path:
        """Return where the stage's report lies, relative to the root."""
        return self.folder(stage) / f"{_stem(stage)}.html"

    def executed(self, stage: str) -> Path:
        """Return where the executed notebook lies, relative to the root."""
        return self.folder(stage) / "notebooks" / f"{_stem(stage)}.ipynb"

    def log(self, stage: str) -> Path:
        """Return where the stage's text log lies, relative to the root; its last line says why it failed."""
        return self.folder(stage) / "logs" / f"{_stem(stage)}.log"

    def with_needs(self, wanted: Iterable[str]) -> list[str]:
        """Return the wanted stages and what they need, in the order of the plan; without any, all not left out."""
        found: set[str] = set()
        pending = list(wanted) or [name for name, stage in self.stages.items() if not stage.left_out]
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                pending.extend(self.stages[name].needs)
        return [name for name in self.stages if name in found]


def _stem(stage: str) -> str:
    return stage.partition("/")[0]


def read_plan(
    preset: Path,
    root: Path = ROOT,
    run_name: str = "",
    clips: Path | None = None,
    changes: Mapping[Path, Mapping[str, Any]] | None = None,
) -> Plan:
    """Read ``config/stages.yaml`` and a preset, and check every parameter against its notebook.

    Args:
        preset: YAML that maps stages to parameters, or to false to leave them out. Relative paths in it start from its
            own folder, those in the project's presets from `root`.
        root: The checkout.
        run_name: Name of the run's folder; the preset's stem if empty.
        clips: Folder of recordings that every stage takes which takes any, whatever the preset says.
        changes: What other files change of the preset, as it does itself.

    Raises:
        CodecbookError: A file is no such YAML, a key or stage is unknown or stands there twice, a notebook is missing,
            a stage needs one that does not stand above it, or a parameter is unknown, ill-typed, out of bounds, or
            names what is not there.
    """
    entries = read_mapping(root / STAGES_FILE)
    layers = {preset: read_mapping(preset), **(changes or {})}
    for path, overrides in layers.items():
        for name in overrides:
            if name not in entries:
                raise UnsupportedInput(f"{path} names the stage {name!r}; {known_names(name, entries)}")
    run_dir = Path("reports") / (run_name or preset.stem)
    stages: dict[str, Stage] = {}
    for name, entry in entries.items():
        stage = _stage(name, mapping(root / STAGES_FILE, entry, name), list(stages))
        notebook = root / "notebooks" / f"{name}.ipynb"
        if not notebook.is_file():
            raise UnsupportedInput(
                f"{STAGES_FILE} lists {name!r}, but notebooks/{name}.ipynb does not exist; remove the entry."
            )
        declared = read_declarations(notebook)
        left_out = layers[preset].get(name) is False
        own_clips = {"clips_dir": str(clips)} if clips and "clips_dir" in declared.parameters else {}
        parameters = checked(declared, stage.parameters, root, f"{STAGES_FILE}: {name}")
        for path, overrides in layers.items():
            own = {} if left_out and path == preset else mapping(path, overrides.get(name), name)
            parameters |= checked(declared, own, base_folder(path, root), f"{path}: {name}")
        parameters |= checked(declared, own_clips, root, "--clips")
        stage = with_parameters(stage, declared, parameters)
        summed_up = [root / run_dir / "results" / f"{other}.json" for other in stages] if stage.last else []
        stages[name] = replace(stage, left_out=left_out, inputs=(*stage.inputs, *summed_up))
    return Plan(preset, run_dir, stages)


def with_parameters(stage: Stage, declared: Declarations, parameters: Mapping[str, Any]) -> Stage:
    """Return a stage with these parameters, checked ones, and with what they name as its inputs."""
    inputs = stage_inputs(declared.code, {**defaults(declared), **parameters}.items())
    return replace(stage, parameters=parameters, inputs=tuple(inputs))


def base_folder(path: Path, root: Path) -> Path:
    """Return the folder that relative paths in a YAML file start from."""
    return root if path.parent in (root / "config", root / SWEEPS) else path.parent


def library_files(root: Path = ROOT) -> list[str]:
    """Return all files of the package, its templates and scripts included, relative to the root."""
    return _files(root, "lib/codecbook")


def data_files(root: Path = ROOT) -> list[str]:
    """Return the clips, weights and tokens that notebooks read: relative to the root, or below ``CODECBOOK_DATA``."""
    data = os.environ.get("CODECBOOK_DATA") or "data"
    return [name for folder in ("clips", "models", "tokens", "voice") for name in _files(root, f"{data}/{folder}")]


def digest(root: Path, names: Iterable[str]) -> str:
    """Return a digest of files, of their names and what is in them, in 16 hexadecimal digits."""
    found = hashlib.sha256()
    for name in names:
        with (root / name).open("rb") as file:
            found.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()[:16]


def known_names(wanted: str, names: Iterable[str]) -> str:
    """Return the end of an error message: the nearest name and all known ones."""
    names = list(names)
    nearest = difflib.get_close_matches(wanted, names, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."


def _files(root: Path, folder: str) -> list[str]:
    return sorted(
        str(path.relative_to(root) if path.is_relative_to(root) else path)
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    )


def _stage(name: str, entry: Mapping[str, Any], above: list[str]) -> Stage:
    fields = {"needs": list, "threads": int, "memory_mb": int, "seconds": int, "last": bool, "parameters": dict}
    for key, value in entry.items():
        if key not in fields:
            raise UnsupportedInput(f"{STAGES_FILE}: {name} has a key {key!r}; {known_names(key, fields)}")
        if not isinstance(value, fields[key]) or (fields[key] is int and value < 1):
            raise UnsupportedInput(
                f"{STAGES_FILE}: {key} of {name} is {value!r}; give a {fields[key].__name__}"
                + (" of at least 1." if fields[key] is int else ".")
            )
    for need in entry.get("needs", []):
        if need not in above:
            raise UnsupportedInput(
                f"{STAGES_FILE}: {name} needs {need!r}, which does not stand above it; {known_names(need, above)}"
            )
    return Stage(name, **{**entry, "needs": tuple(entry.get("needs", ()))})


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Return what a YAML file holds, which must be names and values; nothing counts as no names."""
    return mapping(path, _read_yaml(path))


def mapping(path: Path, part: Any, name: str = "") -> Mapping[str, Any]:
    """Return `part` of a YAML file, called `name` in messages, as names and values; None counts as no names."""
    part = {} if part is None else part
    if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
        where = f"{name} in {path}" if name else f"{path}"
        raise UnsupportedInput(f"{where} is no mapping of names to values: {part!r}. Write 'name: value' lines.")
    return part


def _read_yaml(path: Path) -> Any:
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        try:
            document = loader.get_single_node()
            _refuse_repeated_keys(path, document)
            return None if document is None else loader.construct_document(document)
        finally:
            loader.dispose()
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, UnsupportedInput):
            raise
        reason = " ".join(str(error).split())
        raise UnsupportedInput(f"{path} cannot be read as YAML: {reason}. Correct it.") from error


def _refuse_repeated_keys(path: Path, document: yaml.Node | None) -> None:
    """Refuse a key that stands twice in one mapping: YAML itself keeps the last and says nothing."""
    nodes, found = [document], []
    for _ in range(3):  # as deep as files of this project go
        found += filter(_is_mapping, nodes)
        nodes = [value for node in filter(_is_mapping, nodes) for _, value in node.value]
    for node in found:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UnsupportedInput(
                    f"{path} has {key.value!r} twice, in lines {lines[key.value]} and {line}; one would be lost, so "
                    "join them."
                )
            lines[key.value] = line


def _is_mapping(node: yaml.Node | None) -> TypeGuard[yaml.MappingNode]:
    return isinstance(node, yaml.MappingNode)

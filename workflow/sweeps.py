"""Sweeps: a grid of parameters from YAML as one plan.

A sweep's stages are ``stem/point``: the same notebook once for each combination of the axes that reach it, by
parameters of its own or of a stage that it needs. So it runs once for all points that are the same to it.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages import Plan, Stage, base_folder, known_names, mapping, read_mapping, read_plan, with_parameters

from codecbook.book.grid import Figure, Grid, Point, value_text
from codecbook.book.parameters import Declarations, checked, read_declarations
from codecbook.errors import UnsupportedInput

MOST_POINTS = 1000
SHARED = "shared"  # the point of stages that no axis reaches
_FIELDS = ("question", "preset", "stages", "parameters", "axes", "figures", "frontier")
_NAME_CHARACTERS = 200  # of a folder
_VALUE_CHARACTERS = 24


def read_sweep(path: Path, root: Path, run_name: str = "") -> Plan:
    """Read a sweep and check all of it against the notebooks; see config/sweeps for what stands in one.

    Raises:
        CodecbookError: The file is no such YAML; a field, stage, axis, parameter or value is unknown, ill-typed or out
            of bounds, or stands there twice; the grid has more than 1000 points.
    """
    fields = read_mapping(path)
    for name in fields:
        if name not in _FIELDS:
            raise UnsupportedInput(f"{path} has a field {name!r}; {known_names(name, _FIELDS)}")
    changes = mapping(path, fields.get("parameters"), "parameters")
    preset = _preset(path, fields.get("preset", "fast"), root)
    plan = read_plan(preset, root, run_name or path.stem, changes={path: changes})
    known = [name for name, stage in plan.stages.items() if not stage.last]  # points have nothing to sum up
    wanted = plan.with_needs(_listed(path, fields.get("stages"), "stages", known))
    if changes:
        _listed(path, [*changes], "parameters", wanted)
    declared = {stage: read_declarations(root / "notebooks" / f"{stage}.ipynb") for stage in wanted}
    axes = mapping(path, fields.get("axes"), "axes")
    if not axes:
        raise UnsupportedInput(f"{path} has no axes; write 'axes: {{parameter: [value, value]}}'.")
    settings = {axis: _axis(path, axis, axes[axis], declared, base_folder(path, root)) for axis in axes}
    set_by = {(stage, name): "parameters" for stage in wanted for name in mapping(path, changes.get(stage), stage)}
    for axis, reached in settings.items():
        for stage, name in ((stage, _parameter(axis)) for stage in reached):
            other = set_by.setdefault((stage, name), axis)
            if other != axis:
                raise UnsupportedInput(f"{path}: {name} of {stage} is set by {axis} and by {other}; drop one.")
    chosen = [figure for figure, _ in _figures(path, fields.get("figures"), wanted, axes)]
    frontier = dict(_figures(path, fields.get("frontier"), wanted, axes, "frontier"))
    count = math.prod(map(len, axes.values()))
    if count > MOST_POINTS:
        raise UnsupportedInput(f"{path} has {count} points, of at most {MOST_POINTS}; leave out values.")
    stages, points = _jobs([plan.stages[stage] for stage in wanted], declared, settings, axes)
    grid = Grid(str(fields.get("question", "")), axes, chosen or [*frontier], frontier, points)
    return replace(plan, preset=path, stages=stages, grid=grid)


def _preset(path: Path, value: Any, root: Path) -> Path:
    own = sorted(each.stem for each in (root / "config").glob("*.yaml") if each.stem != "stages")
    preset = root / "config" / f"{value}.yaml" if value in own else base_folder(path, root) / str(value)
    if not preset.is_file():
        raise UnsupportedInput(f"{path}: preset is {value!r}, no file and no preset; {known_names(str(value), own)}")
    return preset


def _listed(path: Path, value: Any, name: str, known: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise UnsupportedInput(f"{path}: {name} is {value!r}; give a list of at least one.")
    for each in value:
        if each not in list(known):
            raise UnsupportedInput(f"{path}: {name} has {each!r}; {known_names(str(each), known)}")
    return value


def _parameter(axis: str) -> str:
    return axis.rpartition(".")[2]


def _axis(path: Path, axis: str, values: Any, declared: Mapping[str, Declarations], base: Path) -> dict[str, list[Any]]:
    """Return the checked values of an axis for each stage that takes it: all, or the one before the point."""
    scope, _, name = axis.rpartition(".")
    where = f"{path}: axis {axis}"
    if scope and scope not in declared:
        raise UnsupportedInput(
            f"{where} is of the stage {scope!r}, which does not run here; {known_names(scope, declared)}"
        )
    reached = [stage for stage in declared if name in declared[stage].parameters and scope in ("", stage)]
    if not reached:
        known = {name for stage in declared if scope in ("", stage) for name in declared[stage].parameters}
        raise UnsupportedInput(f"{where} is a parameter of no stage here; {known_names(name, sorted(known))}")
    if not isinstance(values, list) or not values:
        raise UnsupportedInput(f"{where} is {values!r}; give the list of its values, each of them as in a preset.")
    typed = {stage: [checked(declared[stage], {name: v}, base, where)[name] for v in values] for stage in reached}
    first = typed[reached[0]]
    twice = next((value for i, value in enumerate(first) if value in first[:i]), None)
    if twice is not None:
        raise UnsupportedInput(f"{where} has {value_text(twice)} twice; drop one.")
    return typed


def _figures(
    path: Path, value: Any, wanted: Sequence[str], axes: Mapping[str, Any], name: str = "figures"
) -> list[tuple[Figure, str]]:
    """Return the figures that the page shows; of the frontier, with which way is better. Keys are known after a run."""
    found: list[tuple[Figure, str]] = []
    for stage, keys in mapping(path, value, name).items():
        _listed(path, [stage], name, wanted)
        if not isinstance(keys, dict if name == "frontier" else list):
            form = "{key: less, key: more}" if name == "frontier" else "[key, key]"
            raise UnsupportedInput(f"{path}: {name} of {stage} is {keys!r}; write {form}.")
        found += [(Figure(stage, str(key)), keys[key] if name == "frontier" else "") for key in keys]
    for figure, way in found:
        for axis in re.findall(r"\{([^}]*)\}", figure.key):
            if axis not in axes:
                raise UnsupportedInput(f"{path}: {figure.key!r} has no axis {axis!r}; {known_names(axis, axes)}")
        if name == "frontier" and way not in ("less", "more"):
            raise UnsupportedInput(f"{path}: frontier has {figure.key}: {way!r}; write which is better, less or more.")
    if name == "frontier" and len(found) not in (0, 2):
        raise UnsupportedInput(f"{path}: frontier has {len(found)} figures; give two.")
    return found


def _jobs(
    wanted: Sequence[Stage],
    declared: Mapping[str, Declarations],
    settings: Mapping[str, Mapping[str, list[Any]]],
    axes: Mapping[str, list[Any]],
) -> tuple[dict[str, Stage], list[Point]]:
    """Return the stages of all points, each of them once, and the points."""
    reach: dict[str, list[str]] = {}  # axes by stage; what it needs stands before it
    for stage in wanted:
        above = {axis for need in stage.needs for axis in reach[need]}
        reach[stage.name] = [axis for axis in axes if stage.name in settings[axis] or axis in above]
    stages: dict[str, Stage] = {}
    points = []
    for places in itertools.product(*(range(len(values)) for values in axes.values())):
        at = dict(zip(axes, places, strict=True))
        values = {axis: axes[axis][i] for axis, i in at.items()}
        folders = {name: _point_name({axis: values[axis] for axis in reach[name]}) for name in reach}
        points.append(Point(values, folders))
        for stage in wanted:
            job = f"{stage.name}/{folders[stage.name]}"
            if job not in stages:
                set_here = [axis for axis in axes if stage.name in settings[axis]]
                own = {_parameter(axis): settings[axis][stage.name][at[axis]] for axis in set_here}
                made = with_parameters(stage, declared[stage.name], {**stage.parameters, **own})
                stages[job] = replace(
                    made, name=job, left_out=False, needs=tuple(f"{need}/{folders[need]}" for need in stage.needs)
                )
    return stages, points


def _point_name(values: Mapping[str, Any]) -> str:
    """Return the name of a folder, the same whatever other values the axes have; without commas, for remote jobs."""
    name = "+".join(f"{axis}~{_slug(value)}" for axis, value in values.items())
    return (name or SHARED) if len(name) <= _NAME_CHARACTERS else _digested(name, _NAME_CHARACTERS, name)


def _slug(value: Any) -> str:
    text = value_text(value)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return slug if slug == text and len(slug) <= _VALUE_CHARACTERS else _digested(slug, _VALUE_CHARACTERS, value)


def _digested(name: str, limit: int, value: Any) -> str:
    """Return the beginning of a name, with a digest of all that it stands for."""
    return f"{name[:limit]}-{hashlib.sha256(json.dumps(value).encode()).hexdigest()[:6]}"

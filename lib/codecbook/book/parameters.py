"""Parameters of a notebook: checked by the notebook itself, and checked before a run against the notebook.

A notebook's parameters are annotated scalars or lists in the cell tagged ``parameters``. papermill neither
checks their types nor refuses unknown names, so both are done here, with messages that say what to type instead.
"""

import ast
import difflib
import io
import math
import tokenize
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from codecbook.errors import UnsupportedInput

_EXAMPLES = {
    "int": "3",
    "float": "6.0",
    "str": '"text"',
    "bool": "True",
    "list": "[1, 2]",
    "dict": '{"a": 1}',
}


def validate(
    namespace: dict[str, Any],
    choices: Mapping[str, Sequence] | None = None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
) -> dict[str, Any]:
    """Check the annotated names of a notebook and return them as its parameters.

    Called in the cell after the parameters cell, with ``globals()``. A value that papermill injected is held
    against the annotation of the parameters cell.

    Args:
        namespace: The notebook's globals, or any mapping with ``__annotations__``.
        choices: Allowed values by name. For a list, every element must be one of them.
        bounds: ``(lowest, highest)`` by name, both inclusive, None for open. For a list, of every element.

    Returns:
        The parameters in the order of their annotations; an int where a float is expected becomes a float.

    Raises:
        UnsupportedInput: No annotated names, a wrong type, a number that is not finite, a value outside its
            choices or bounds, or a check for a name that is no parameter.

    Example:
        >>> cell = {"__annotations__": {"codec": str, "clips": int}, "codec": "encodec_24khz", "clips": 4}
        >>> validate(cell, choices={"codec": ["encodec_24khz", "snac_24khz"]}, bounds={"clips": (1, None)})
        {'codec': 'encodec_24khz', 'clips': 4}
    """
    choices, bounds = choices or {}, bounds or {}
    annotations = {name: kind for name, kind in _annotations(namespace).items() if name in namespace}
    if not annotations:
        raise UnsupportedInput(
            "No annotated parameters were found; write them as 'codec: str = \"encodec_24khz\"  # which codec' in "
            "the cell tagged 'parameters', and call validate(globals()) after it."
        )
    for name in [*choices, *bounds]:
        if name not in annotations:
            raise UnsupportedInput(
                f"A check names {name!r}, which is no parameter; {_known(annotations, name)}"
            )
    parameters = {name: _typed(name, namespace[name], kind) for name, kind in annotations.items()}
    for name, allowed in choices.items():
        _check_elements(name, parameters[name], lambda v, allowed=allowed: v in allowed, _one_of(allowed))
    for name, (lowest, highest) in bounds.items():
        within = _within(lowest, highest)
        _check_elements(name, parameters[name], within, _range_text(lowest, highest))
    return parameters


def check_against_notebook(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Check parameters against a notebook's parameters cell before it is run.

    Raises:
        UnsupportedInput: The notebook has no parameters cell, a name is unknown, or a value is ill-typed; the
            message lists the known names with their help and the nearest match.
    """
    known = _declared(Path(notebook))
    if not known and parameters:
        raise UnsupportedInput(
            f"{notebook.name} has no parameters, but received {', '.join(parameters)}; tag its parameters cell "
            "'parameters', or leave them out."
        )
    for name, value in parameters.items():
        if name not in known:
            raise UnsupportedInput(
                f"{notebook.name} has no parameter {name!r}; {_known(known, name)}\n{_help(known)}"
            )
        try:
            _typed(name, value, _named_type(known[name].annotation))
        except UnsupportedInput as error:
            raise UnsupportedInput(f"{notebook.name}: {error}\n{_help(known)}") from error


@dataclass(frozen=True)
class _Declaration:
    """A line of a parameters cell, as text: ``name: annotation = default  # help``."""

    annotation: str
    default: str
    help: str


def _declared(notebook: Path) -> dict[str, _Declaration]:
    """Read the parameters cell of a notebook.

    papermill's own inspection takes seconds to import and overlooks annotations such as ``int | None``.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        return {}
    try:
        tree = ast.parse(tagged[0])
    except SyntaxError as error:
        raise UnsupportedInput(
            f"The parameters cell of {notebook} is no Python ({error}); correct it."
        ) from error
    lines = io.StringIO(tagged[0]).readline
    comments = {
        token.end[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(lines)
        if token.type == tokenize.COMMENT
    }
    declared = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            target, annotation = node.target, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            target, annotation = node.targets[0], ""
        else:
            continue
        if isinstance(target, ast.Name) and node.value is not None:
            help_text = comments.get(node.end_lineno or node.lineno, "")
            declared[target.id] = _Declaration(annotation, ast.unparse(node.value), help_text)
    return declared


def _annotations(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return annotations as types: stored ones, lazy ones (Python 3.14), and those written as strings."""
    found = dict(namespace.get("__annotations__") or {})
    annotate: Callable[[int], dict] | None = namespace.get("__annotate__")
    if annotate is not None:
        found.update(annotate(1))  # 1 = annotationlib.Format.VALUE
    return {name: _named_type(kind) if isinstance(kind, str) else kind for name, kind in found.items()}


def _named_type(name: str) -> Any:
    """Turn an annotation's text into a type; Any where it names none that is known here."""
    if not name:
        return Any
    holder = types.ModuleType("parameters")
    holder.__annotations__ = {"value": name.strip()}
    try:
        return typing.get_type_hints(holder)["value"]
    except (NameError, SyntaxError, TypeError):
        return Any


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Return `value` as `kind`, or raise; a list's elements are checked too."""
    origin = typing.get_origin(kind) or kind
    if origin is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _typed_union(name, value, kind)
    if origin is type(None):
        matches = value is None
    elif origin is float:
        matches = isinstance(value, int | float) and not isinstance(value, bool)
    elif origin is int:
        matches = isinstance(value, int) and not isinstance(value, bool)
    elif origin is list:
        matches = isinstance(value, list | tuple)
    else:
        matches = isinstance(value, origin)
    if not matches:
        raise UnsupportedInput(
            f"Parameter {name} must be {_type_name(kind)}; received {value!r} ({type(value).__name__}). "
            f"Write it like {name} = {_EXAMPLES.get(getattr(origin, '__name__', ''), 'None')}."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UnsupportedInput(f"Parameter {name} must be finite; received {value!r}. Give a number.")
    if isinstance(value, list | tuple):
        element = (typing.get_args(kind) or (Any,))[0]
        return [_typed(f"{name}[{i}]", item, element) for i, item in enumerate(value)]
    return float(value) if origin is float else value


def _typed_union(name: str, value: Any, kind: Any) -> Any:
    for member in typing.get_args(kind):
        try:
            return _typed(name, value, member)
        except UnsupportedInput:
            continue
    raise UnsupportedInput(
        f"Parameter {name} must be {_type_name(kind)}; received {value!r} ({type(value).__name__}). Give one of "
        "these types."
    )


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def _check_elements(name: str, value: Any, accepts: Callable[[Any], bool], expected: str) -> None:
    for item in value if isinstance(value, list) else [value]:
        if item is not None and not accepts(item):
            raise UnsupportedInput(
                f"Parameter {name} must be {expected}; received {item!r}. Choose such a value."
            )


def _within(lowest: float | None, highest: float | None) -> Callable[[Any], bool]:
    return lambda value: (lowest is None or value >= lowest) and (highest is None or value <= highest)


def _one_of(allowed: Iterable) -> str:
    return "one of " + ", ".join(repr(value) for value in allowed)


def _range_text(lowest: float | None, highest: float | None) -> str:
    if lowest is None:
        return f"at most {highest}"
    return f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"


def _known(names: Iterable[str], wanted: str) -> str:
    names = list(names)
    nearest = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}Known names: {', '.join(names)}."


def _help(known: Mapping[str, _Declaration]) -> str:
    return "\n".join(
        f"  {name}{': ' if entry.annotation else ''}{entry.annotation} = {entry.default}  # {entry.help}"
        for name, entry in known.items()
    )

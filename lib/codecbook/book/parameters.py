"""Parameters of a notebook: read from the file and checked before a run, and checked again by the notebook itself.

A notebook's parameters are the annotated names of its cell tagged ``parameters``, ``name: type = default  # help``.
papermill neither checks their types nor refuses unknown names, so both are done here, with messages that say what to
type instead. What the call of `validate` below that cell allows is known before the run, where it stands there, or in
the same cell under a name, as plain values.
"""

import ast
import contextlib
import difflib
import io
import json
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from codecbook.book import inputs
from codecbook.errors import CodecbookError, CorruptInput, UnsupportedInput

Bounds = Mapping[str, tuple[float | None, float | None]]

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_REMEDIES = {
    "int_type": "Write a whole number: 3.",
    "float_type": "Write a number: 6.0; in YAML, an exponent takes a point before it and a sign: 3.0e-3.",
    "finite_number": "Give a finite number.",
    "string_type": "Write text; in YAML, in quotes.",
    "bool_type": "Write True or False; in YAML, true or false.",
    "list_type": "Write a list: [a, b].",
}


@dataclass(frozen=True)
class Parameter:
    """An assignment of the parameters cell, as text: ``name: annotation = default  # help``."""

    annotation: str
    default: str
    help: str


@dataclass(frozen=True)
class Declarations:
    """What a notebook declares."""

    notebook: Path
    parameters: Mapping[str, Parameter] = field(default_factory=dict)  # in the order of the cell; empty without one
    bounds: Bounds = field(default_factory=dict)  # (lowest, highest) by name, as `validate` takes them
    code: str = ""  # all code cells, joined


def read_declarations(notebook: Path) -> Declarations:
    """Read what a notebook declares; nbformat and papermill would take seconds for the same."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        tagged = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptInput(f"{notebook} cannot be read as a notebook ({error}); restore it.") from error
    try:
        parameters = _parameters(tagged[0]) if tagged else {}
    except (SyntaxError, tokenize.TokenError) as error:
        raise UnsupportedInput(f"The parameters cell of {notebook} is no Python ({error}); correct it.") from error
    bounds = next((_bounds(cell) for cell in code if "validate(" in cell), {})
    return Declarations(notebook, parameters, bounds, "\n".join(code))


def validate(namespace: dict[str, Any], bounds: Bounds | None = None) -> dict[str, Any]:
    """Check the annotated names of a notebook, in order, and return them as its parameters.

    Called with ``globals()`` in the cell after the parameters cell. A value that papermill injected is held against the
    annotation. `bounds` are ``(lowest, highest)`` by name, both inclusive, None for open; of a list they hold for every
    element. An int where a float is expected becomes a float; paths (see
    `codecbook.book.inputs`) become absolute, in the namespace as well.

    Example:
        >>> cell = {"__annotations__": {"codec": str, "clips": int}, "codec": "encodec_24khz", "clips": 4}
        >>> validate(cell, bounds={"clips": (1, None)})
        {'codec': 'encodec_24khz', 'clips': 4}
    """
    bounds = bounds or {}
    kinds = dict(namespace.get("__annotations__") or {})
    if "__annotate__" in namespace:  # from Python 3.14 on, annotations are made when they are asked for
        kinds |= namespace["__annotate__"](1)
    kinds = {name: kind for name, kind in kinds.items() if name in namespace}
    if not kinds:
        raise UnsupportedInput(
            "No annotated parameters were found; write them as 'codec: str = \"encodec_24khz\"  # which codec' in "
            "the cell tagged 'parameters', and call validate(globals()) after it."
        )
    for name in bounds:
        if name not in kinds:
            raise UnsupportedInput(f"A bound names {name!r}, which is no parameter; {_known(kinds, name)}")
    parameters = {}
    for name, kind in kinds.items():
        value = _checked(name, namespace[name], kind, bounds)
        parameters[name] = namespace[name] = inputs.resolved(name, value, Path.cwd())
    return parameters


def checked(declared: Declarations, values: Mapping[str, Any], base: Path, where: str) -> dict[str, Any]:
    """Return values of a preset, as YAML gave them, typed and with absolute paths, checked before a notebook is run.

    Relative paths start from `base`, and `where` is what an error message calls the place of the values.
    """
    known, typed = declared.parameters, {}
    for name, value in values.items():
        if name not in known:
            raise UnsupportedInput(f"{where} has no parameter {name!r}; {_known(known, name)}")
        meaning = known[name].help
        try:
            value = _checked(name, value, _kind(known[name]), declared.bounds)
            typed[name] = inputs.resolved(name, value, base, help_text=meaning)
        except CodecbookError as error:
            raise type(error)(f"{where}: {error} [{name}: {meaning}]") from error
    return typed


def defaults(declared: Declarations) -> dict[str, Any]:
    """Return the values that a notebook's own parameters cell gives, typed as `validate` returns them."""
    values = {}
    for name, parameter in declared.parameters.items():
        try:
            value = ast.literal_eval(parameter.default)
        except ValueError as error:
            raise UnsupportedInput(
                f"Parameter {name} of {declared.notebook} is {parameter.default}, no literal; write a plain value."
            ) from error
        values[name] = _checked(name, value, _kind(parameter), {})
    return values


def _kind(parameter: Parameter) -> Any:
    try:
        return eval(parameter.annotation)
    except (NameError, TypeError) as error:
        raise UnsupportedInput(f"{parameter.annotation} is no parameter's type; take int, str, list[float].") from error


def _checked(name: str, value: Any, kind: Any, bounds: Bounds) -> Any:
    """Return `value` as `kind` and within its bounds, or raise."""
    try:
        value = TypeAdapter(kind, config=_STRICT).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = name + "".join(f"[{part}]" for part in first["loc"])
        received = f"{first['input']!r:.80} ({type(first['input']).__name__})"
        raise UnsupportedInput(
            f"Parameter {place}: {first['msg']}; received {received}. {_REMEDIES.get(first['type'], '')}".rstrip()
        ) from error
    low, high = bounds.get(name, (None, None))
    for item in value if isinstance(value, list) else [value]:
        if (low is not None and item < low) or (high is not None and item > high):
            expected = (
                f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
            )
            raise UnsupportedInput(f"Parameter {name} must be {expected}; received {item!r}. Choose such a value.")
    return value


def _parameters(source: str) -> dict[str, Parameter]:
    comments = {
        token.end[0]: token.string.partition("# fmt:")[0].strip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    declared = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            help_text = " ".join(comments[line] for line in lines if line in comments)
            declared[ast.unparse(node.target)] = Parameter(
                ast.unparse(node.annotation), ast.unparse(node.value), help_text
            )
    return declared


def _bounds(source: str) -> Bounds:
    """Return the ``bounds`` that a cell passes to `validate`, or names so, where they are plain values."""
    with contextlib.suppress(SyntaxError, NameError):  # a line magic; what needs the package the notebook alone knows
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "bounds":
                return eval(ast.unparse(node.value), {"__builtins__": {}})
            if isinstance(node, ast.keyword) and node.arg == "bounds" and not isinstance(node.value, ast.Name):
                return eval(ast.unparse(node.value), {"__builtins__": {}})
    return {}


def _known(names: Iterable[str], wanted: str) -> str:
    names = list(names)
    if not names:
        return "it takes none, so leave it out."
    nearest = difflib.get_close_matches(wanted, names, n=1, cutoff=0.4)
    return "".join(f"did you mean {name!r}? " for name in nearest) + f"Known names: {', '.join(names)}."

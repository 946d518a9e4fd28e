"""Names that are imported when they are first used, and libraries that a machine may not have.

Half of this package needs torch, and much of it numba. The exact integer path needs neither: it must run where there is
nothing but Python and numpy, as on processors that no wheels are built for. Packages whose ``__init__`` offers names of
both kinds therefore import each one at its first use (PEP 562), and nobody who imports one waits for the others.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any


def lazy_names(
    module: str, places: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a module that offers names of others, by the module that defines them.

        __getattr__, __dir__ = lazy_names(__name__, {"codecbook.lm.models": ("TinyGPT", "build_lm")})

    Repeat the names in ``if TYPE_CHECKING:`` imports, for type checkers and editors. A name must not be that of a
    submodule, since importing the submodule would put it in the name's place.
    """
    origins = {name: place for place, names in places.items() for name in names}

    def get(name: str) -> Any:
        if name not in origins:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(origins[name]), name)
        setattr(sys.modules[module], name, value)  # the next use finds it without this detour
        return value

    def list_names() -> list[str]:
        return sorted(set(vars(sys.modules[module])) | set(origins))

    return get, list_names


def optional_module(name: str) -> ModuleType | None:
    """Return an installed module, imported, or None where it is not installed.

    One that is installed and fails to import raises as usual: that is a fault, and not a smaller machine.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None

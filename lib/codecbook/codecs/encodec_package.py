"""Import the package ``encodec`` on machines where torchaudio cannot be loaded.

``encodec`` 0.1.1 imports torchaudio at module level, only for resampling, files and its discriminator's spectrogram;
here soxr, soundfile and torch.stft do these. Where it is absent, a placeholder says so when it is used.
"""

import contextlib
import functools
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

from codecbook.errors import UnsupportedInput


def _unavailable(name: str, *_args: Any, **_settings: Any) -> NoReturn:
    raise ImportError(f"{name} needs torchaudio, which is not installed; use codecbook.audio instead.")


def _placeholder(path: str, names: tuple[str, ...]) -> Any:
    """Register a module whose names raise when they are called."""
    module = types.ModuleType(path)
    # importlib.util.find_spec("torchaudio") is how other packages ask; without a spec it raises
    module.__spec__ = importlib.machinery.ModuleSpec(path, loader=None)
    for name in names:
        setattr(module, name, functools.partial(_unavailable, f"{path}.{name}"))
    sys.modules[path] = module
    return module


if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is None:
    torchaudio = _placeholder("torchaudio", ("load", "save"))
    torchaudio.transforms = _placeholder("torchaudio.transforms", ("Spectrogram", "Resample"))

if importlib.util.find_spec("encodec") is None:
    raise UnsupportedInput("This codec needs encodec; run pip install --no-deps encodec==0.1.1 (without torchaudio).")

import encodec  # noqa: E402
import encodec.compress  # noqa: E402
import encodec.model  # noqa: E402
import encodec.modules.seanet  # noqa: E402
import encodec.quantization.vq  # noqa: E402


@contextlib.contextmanager
def deprecated_weight_norm() -> Iterator[None]:
    """Silence torch's advice to use another ``weight_norm`` while a model of ``encodec`` or ``snac`` is built.

    Both packages use ``torch.nn.utils.weight_norm``; its successor has another state-dict layout, in which their
    published weights would not load.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
        yield


__all__ = ["deprecated_weight_norm", "encodec"]

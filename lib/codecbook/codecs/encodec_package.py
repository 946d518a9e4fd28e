"""Import the package ``encodec`` on machines where torchaudio cannot be loaded.

``encodec`` 0.1.1 imports torchaudio at module level, and needs it only for resampling, file I/O and the
spectrogram of its discriminator; here soxr, soundfile and torch.stft do these. Where torchaudio is absent, a
placeholder is registered first, whose use (rather than import) says what is missing.

    from codecbook.codecs.encodec_package import encodec
"""

import contextlib
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator

from codecbook.errors import UnsupportedInput


def _unavailable(name: str) -> type:
    def refuse(self, *args, **kwargs) -> None:
        raise ImportError(
            f"torchaudio.{name} was called, but torchaudio is not installed; codecbook does not need it: use "
            "codecbook.audio for files and resampling."
        )

    return type(name, (), {"__init__": refuse, "__doc__": f"Placeholder for torchaudio.{name}."})


def _register_placeholder() -> None:
    classes = {"torchaudio": ("load", "save"), "torchaudio.transforms": ("Spectrogram", "Resample")}
    for path, names in classes.items():
        module = types.ModuleType(path)
        # importlib.util.find_spec("torchaudio") is how other packages ask; without a spec it raises
        module.__spec__ = importlib.machinery.ModuleSpec(path, loader=None)
        for name in names:
            setattr(module, name, _unavailable(f"{path}.{name}".removeprefix("torchaudio.")))
        sys.modules[path] = module
    sys.modules["torchaudio"].transforms = sys.modules["torchaudio.transforms"]  # type: ignore[attr-defined]


if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is None:
    _register_placeholder()

if importlib.util.find_spec("encodec") is None:
    raise UnsupportedInput(
        "EnCodec and the codecs made of its parts need the package encodec, which is not installed; install it with "
        "pip install --no-deps encodec==0.1.1 (its own dependencies would bring torchaudio)."
    )

import encodec  # noqa: E402
import encodec.compress  # noqa: E402
import encodec.model  # noqa: E402
import encodec.modules  # noqa: E402
import encodec.quantization  # noqa: E402


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

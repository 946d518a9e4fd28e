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

from torch import Tensor


def _unavailable(name: str) -> type:
    def refuse(self, *args, **kwargs) -> None:
        raise ImportError(
            f"torchaudio.{name} was called, but torchaudio is not installed; codecbook does not need it: use "
            "codecbook.audio for files and resampling."
        )

    return type(name, (), {"__init__": refuse, "__doc__": f"Placeholder for torchaudio.{name}."})


def _register_placeholder() -> None:
    module = types.ModuleType("torchaudio")
    transforms = types.ModuleType("torchaudio.transforms")
    for parent in (module, transforms):
        # importlib.util.find_spec("torchaudio") is how other packages ask; without a spec it raises
        parent.__spec__ = importlib.machinery.ModuleSpec(parent.__name__, loader=None)
    for name in ("Spectrogram", "Resample"):
        setattr(transforms, name, _unavailable(f"transforms.{name}"))
    for name in ("load", "save"):
        setattr(module, name, _unavailable(name))
    module.transforms = transforms  # type: ignore[attr-defined]
    sys.modules["torchaudio"] = module
    sys.modules["torchaudio.transforms"] = transforms


if "torchaudio" not in sys.modules and importlib.util.find_spec("torchaudio") is None:
    _register_placeholder()

import encodec  # noqa: E402
import encodec.compress  # noqa: E402
import encodec.model  # noqa: E402
import encodec.modules  # noqa: E402
import encodec.quantization  # noqa: E402
import encodec.utils  # noqa: E402


@contextlib.contextmanager
def deprecated_weight_norm() -> Iterator[None]:
    """Silence torch's advice to use another ``weight_norm`` while a model of ``encodec`` or ``snac`` is built.

    Both packages use ``torch.nn.utils.weight_norm``; its successor has another state-dict layout, in which their
    published weights would not load.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
        yield


def overlap_add(waves: list[Tensor], stride: int) -> Tensor:
    """Join the decoded segments of a clip as the package does.

    Where the last segment begins just before the clip's end, whole frames let the one before it reach beyond the last
    one's own end, for which the package makes no room, and fails. What lies beyond is cut: it is after the clip's end.

    Args:
        waves: float ``[B, C, S]`` each, in order.
        stride: Samples from the start of one to the start of the next.
    """
    waves = list(waves)
    if len(waves) > 1:
        waves[-2] = waves[-2][..., : stride + waves[-1].shape[-1]]
    return encodec.utils._linear_overlap_add(waves, stride)


__all__ = ["deprecated_weight_norm", "encodec", "overlap_add"]

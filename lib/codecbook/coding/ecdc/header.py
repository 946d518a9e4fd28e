"""The header of an ``.ecdc`` stream: four writers' dialects of one JSON object.

``ECDC``, u8 version 0, u32 (big-endian) length, then JSON with the keys, in this order:

- package ``encodec`` 0.1.1: ``m`` (model), ``al`` (samples), ``nc`` (codebooks), ``lm`` (coded with a language model?);
- encodec's pull request 95: these, then ``fp``, ``mr``, ``acv`` and ``tau``. ``acv`` is 4 with a language model (each
  segment in a chunk with a checksum), 3 the same without chunks, and 0 without one.

``fp`` and ``mr`` tell how probabilities become integers, but neither the step of the logit grid nor the float type of
the model is stored: they are guessed from ``fp``, and can be given. A successor, ``encodec-rs``, gives the same
numbers of ``acv`` other meanings and adds keys, by which it is recognised and refused.
"""

import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codecbook.coding.counts import GRID_DIALECTS, GridDialect
from codecbook.errors import CorruptInput, UnsupportedInput
from codecbook.files import parse_json

MAGIC = b"ECDC"
MAX_JSON_BYTES = 1 << 16
MAX_SAMPLES = 1 << 48
UPSTREAM_KEYS = ("m", "al", "nc", "lm")
GRID_KEYS = ("fp", "mr", "acv", "tau")
SUCCESSOR_KEYS = ("lmh", "cs", "cst", "fl")

_FIXED = struct.Struct(">4sBI")
_LIMITS = {"acv": (0, MAX_SAMPLES), "al": (1, MAX_SAMPLES), "nc": (1, 1 << 16), "fp": (1, 1 << 32), "mr": (1, 1 << 24)}
_UNSET_MODEL = "unset"  # what the package calls a model that it did not load
_DTYPE_NAMES = {"float32": "float32", "fp32": "float32", "float64": "float64", "fp64": "float64"}


@dataclass(frozen=True)
class EcdcHeader:
    """What an ``.ecdc`` header says; None for a key that it lacks."""

    model_name: str  # m: "encodec_24khz", "encodec_48khz", or another model's name
    num_samples: int  # al, per channel
    num_codebooks: int  # nc
    uses_lm: bool  # lm
    fp_scale: int | None = None  # fp: counts are floor(p * fp)
    min_range: int | None = None  # mr: least width of a code's interval, of 2^24
    acv: int | None = None  # version of the entropy coder
    tau: float | None = None  # temperature of the logits

    @property
    def coding(self) -> str:
        """How segments are coded: ``"raw"``, ``"upstream"`` (its own CDF and coder) or ``"grid"`` (acv 3 and 4)."""
        if not self.uses_lm:
            return "raw"
        return "grid" if self.acv in (3, 4) else "upstream"

    @property
    def is_chunked(self) -> bool:
        """Whether each segment has a length and a checksum."""
        return self.acv == 4

    def metadata(self) -> dict[str, Any]:
        """Return the JSON object, keys in the order of the writer."""
        values = dict(zip((*UPSTREAM_KEYS, *GRID_KEYS), vars(self).values(), strict=True))
        return {key: value for key, value in values.items() if value is not None}


def write_ecdc_header(header: EcdcHeader) -> bytes:
    """Return the bytes of a header; refuse what `read_ecdc_header` would refuse, and a model without a name."""
    if header.model_name in ("", _UNSET_MODEL):
        raise UnsupportedInput(f"No reader finds the model {header.model_name!r}; set model.name, as 'encodec_24khz'.")
    text = json.dumps(header.metadata()).encode()
    data = _FIXED.pack(MAGIC, 0, len(text)) + text
    read_ecdc_header(data)
    return data


def read_ecdc_header(data: bytes) -> tuple[EcdcHeader, int]:
    """Return the header of a stream, and where its segments begin.

    Raises:
        CorruptInput: Cut off, not JSON, or a key that is missing or has an impossible value.
        UnsupportedInput: Another format, version or ``acv``, unknown keys, or a stream of ``encodec-rs``.
    """
    if not MAGIC.startswith(data[:4]):
        raise UnsupportedInput(f"An .ecdc stream begins with {MAGIC!r}; this one begins with {bytes(data[:4])!r}.")
    if len(data) < _FIXED.size:
        raise CorruptInput(f"The stream ends after {len(data)} bytes, within its header; it is cut off.")
    _, version, length = _FIXED.unpack_from(data)
    if version != 0:
        raise UnsupportedInput(f"The stream has format version {version}; only version 0 is known.")
    end = _FIXED.size + length
    if length > MAX_JSON_BYTES or end > len(data):
        raise CorruptInput(
            f"The header claims {length} bytes of JSON, where {len(data) - _FIXED.size} bytes follow and at most "
            f"{MAX_JSON_BYTES} are read; the stream is cut off or damaged."
        )
    return _header_of(parse_json(data[_FIXED.size : end], dict, "The header", "the stream is damaged")), end


def dialect_of(header: EcdcHeader, qstep: float | None = None, lm_dtype: str | None = None) -> GridDialect:
    """Return the parameters that a stream of ``acv`` 3 or 4 was coded with.

    What the header says comes first, then the arguments (`qstep` in nats), then the environment variables of the pull
    request (``ENCODEC_LOGIT_QSTEP``, ``ENCODEC_DETERMINISTIC_LM_DTYPE``, and for keys that an early header lacks
    ``ENCODEC_AC_FP_SCALE``, ``ENCODEC_AC_MIN_RANGE`` and ``ENCODEC_LM_TAU``), then what `GRID_DIALECTS` has for ``fp``.
    Raises UnsupportedInput: nothing tells the step or the type, a value is out of range or cannot be read, or
    ``ENCODEC_USE_NEAR_UNIFORM`` is on.
    """
    if os.environ.get("ENCODEC_USE_NEAR_UNIFORM", "0").lower() in ("1", "true", "yes", "on"):
        raise UnsupportedInput("ENCODEC_USE_NEAR_UNIFORM is on, which no published stream uses; unset it.")

    def first(value: Any, name: str, read: Callable[[str], Any], default: Any) -> Any:
        if value is not None or name not in os.environ:
            return default if value is None else value
        try:
            return read(os.environ[name])
        except ValueError as error:
            raise UnsupportedInput(
                f"The environment variable {name} is {os.environ[name]!r} ({error}); correct or unset it."
            ) from error

    usual = GRID_DIALECTS["qstep128"]
    fp_scale = first(header.fp_scale, "ENCODEC_AC_FP_SCALE", int, usual.fp_scale)
    min_range = first(header.min_range, "ENCODEC_AC_MIN_RANGE", int, usual.min_range)
    tau = first(header.tau, "ENCODEC_LM_TAU", float, usual.tau)
    known = next((dialect for dialect in GRID_DIALECTS.values() if dialect.fp_scale == fp_scale), None)
    step = first(qstep, "ENCODEC_LOGIT_QSTEP", _fraction, known and known.qstep)
    dtype = first(lm_dtype, "ENCODEC_DETERMINISTIC_LM_DTYPE", _dtype_name, known and known.lm_dtype)
    if step is None or dtype is None:
        raise UnsupportedInput(f"fp = {fp_scale} is of no known dialect; give qstep= and lm_dtype=.")
    return GridDialect(step, fp_scale, min_range, dtype, tau)


def _header_of(values: dict[str, Any]) -> EcdcHeader:
    successor = [key for key in SUCCESSOR_KEYS if key in values]
    if successor:
        raise UnsupportedInput(
            f"This is a stream of encodec-rs (its header has {', '.join(successor)}), whose acv = "
            f"{values.get('acv')!r} means another coder than encodec's; decode it with encodec-rs."
        )
    unknown = sorted(set(values) - {*UPSTREAM_KEYS, *GRID_KEYS})
    if unknown:
        raise UnsupportedInput(f"The header has unknown keys, {[key[:20] for key in unknown[:5]]}; it is damaged.")
    missing = [key for key in UPSTREAM_KEYS if key not in values]
    if missing:
        raise CorruptInput(f"The header lacks {', '.join(missing)}; the stream is damaged.")
    for key, (least, most) in _LIMITS.items():
        value = values.get(key, least)
        if type(value) is not int or not least <= value <= most:
            raise CorruptInput(f"The header says {key} = {str(value)[:40]}, outside {least} to {most}; it is damaged.")
    acv, tau = values.get("acv"), values.get("tau")
    if acv is not None and acv > 4:
        raise UnsupportedInput(f"The stream has acv = {acv}, of a later coder; known are 0 to 4.")
    if not isinstance(values["m"], str) or not isinstance(values["lm"], bool):
        raise CorruptInput(f"The header's m = {str(values['m'])[:40]!r} or lm = {str(values['lm'])[:40]!r} is damaged.")
    if acv is not None and values["lm"] != (acv > 0):
        raise CorruptInput(f"The header contradicts itself: lm = {values['lm']} with acv = {acv}; it is damaged.")
    if tau is not None:
        if not (type(tau) in (int, float) and 0 < tau < 1e9):
            raise CorruptInput(f"The header says tau = {str(tau)[:40]}; a temperature is above 0: it is damaged.")
        values["tau"] = float(tau)
    return EcdcHeader(values["m"], values["al"], values["nc"], values["lm"], *map(values.get, GRID_KEYS))


def _fraction(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator or 1)
    except ZeroDivisionError:
        value = math.inf
    if not (math.isfinite(value) and value > 0):
        raise ValueError("not a positive number")
    return value


def _dtype_name(text: str) -> str:
    if text.lower() not in _DTYPE_NAMES:
        raise ValueError(f"choose one of {', '.join(_DTYPE_NAMES)}")
    return _DTYPE_NAMES[text.lower()]

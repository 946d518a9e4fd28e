"""Names and figures as a reader reads them; and where what pages are made of lies.

Apart from figures and tables, as whoever makes pages needs neither matplotlib nor pandas, a second of every start.
"""

import re
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"

_UNITS = {
    "hz": "Hz", "khz": "kHz", "kbps": "kbps", "s": "s", "ms": "ms", "db": "dB", "lufs": "LUFS", "bits": "bits",
    "bit": "bit", "bytes": "bytes", "mb": "MB", "percent": "%", "min": "min",
}  # fmt: skip
_ACRONYMS = {
    "si_sdr": "SI-SDR", "snr": "SNR", "stoi": "STOI", "estoi": "ESTOI", "pesq": "PESQ", "cpu": "CPU", "npq": "NPQ",
    "lm": "LM", "mos": "MOS",
}  # fmt: skip
_ACRONYM = re.compile(rf"(?<![^_])({'|'.join(_ACRONYMS)})(?![^_])")


def axis_label(name: str) -> str:
    """Turn a column name into an axis label: ``"si_sdr_db"`` into ``"SI-SDR (dB)"``; other text is left as it is.

    Example:
        >>> axis_label("bitrate_kbps"), axis_label("exact.frame_ms"), axis_label("Loss (bits)")
        ('Bitrate (kbps)', 'Exact: frame (ms)', 'Loss (bits)')
    """
    if " " in name:
        return name
    scope, _, last = name.rpartition(".")
    if scope[:1].isalpha():
        scope = re.sub(r"[_.]", " ", scope)
        return f"{scope[:1].upper()}{scope[1:]}: {lowered(axis_label(last))}"
    words, _, last = name.rpartition("_")
    unit = _UNITS.get(last) if words and not words.endswith("_per") else None
    words = (words if unit else name).strip("_")
    text = _ACRONYM.sub(lambda found: _ACRONYMS[found[0]], words).replace("_", " ")
    text = text[:1].upper() + text[1:]
    return f"{text} ({unit})" if unit else text


def lowered(label: str) -> str:
    """Return a label as it stands within a sentence: its first letter small, unless it begins with an acronym."""
    return label if label[:2].isupper() else label[:1].lower() + label[1:]


def value_text(value: Any) -> str:
    """Return one recorded figure as text, with the digits that its own size asks for."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        text = f"{value:.4g}" if value and not 1e-3 <= abs(value) < 1e6 else f"{value:,.4g}"
        return text.replace("-", "\u2212").replace(",", "\u202f") if "e+" not in text else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f").replace("-", "\u2212")
    return str(value)

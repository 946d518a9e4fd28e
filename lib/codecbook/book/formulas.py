"""TeX formulas as MathML, which browsers draw without a script."""

import html
import warnings

from latex2mathml.converter import convert


def to_mathml(tex: str, block: bool) -> str:
    """Convert a formula; one that cannot be converted is shown as its TeX source.

    Args:
        tex: Without its dollar signs.
        block: Centred on its own line, or inline.

    Warns:
        UserWarning: The formula could not be converted.
    """
    try:
        mathml = convert(tex.strip(), display="block" if block else "inline")
    except Exception as error:  # the converter's exceptions share no base class
        warnings.warn(f"The formula {tex.strip()!r} could not be converted ({error!r}).", stacklevel=2)
        return f"<code>{html.escape(tex.strip())}</code>"
    return mathml.replace("<math ", f'<math alttext="{html.escape(tex.strip())}" ', 1)

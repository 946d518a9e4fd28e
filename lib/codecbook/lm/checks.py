"""Checks of settings that models of all kinds share."""

from codecbook.errors import UnsupportedInput


def require_positive(name: str, value: float) -> None:
    """Raise UnsupportedInput unless a setting is an integer of 1 or more."""
    if int(value) != value or value < 1:
        raise UnsupportedInput(f"{name}={value}; give an integer of 1 or more.")

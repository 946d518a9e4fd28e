"""Language models in integers: the same logits on every machine; ``docs/exact-lm.md`` is the normative text."""

from typing import TYPE_CHECKING

from codecbook.lazy import lazy_names
from codecbook.lm.exact.certificate import Bound, certificate, certificate_lines
from codecbook.lm.exact.files import load_exact, save_exact
from codecbook.lm.exact.reference import ReferenceEvaluator, reference_logits
from codecbook.lm.exact.spec import ExactConfig, ExactLM

if TYPE_CHECKING:
    from codecbook.lm.exact.calibrate import calibration_rows
    from codecbook.lm.exact.export import export_exact
    from codecbook.lm.exact.stepper import ExactStepper, kernel_logits
    from codecbook.lm.exact.torch_model import ExactTorch

__all__ = [
    "Bound", "ExactConfig", "ExactLM", "ExactStepper", "ExactTorch", "ReferenceEvaluator", "calibration_rows",
    "certificate", "certificate_lines", "export_exact", "kernel_logits", "load_exact", "reference_logits", "save_exact",
]  # fmt: skip

# these need torch or numba; all that is imported above needs numpy alone
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "codecbook.lm.exact.calibrate": ("calibration_rows",),
        "codecbook.lm.exact.export": ("export_exact",),
        "codecbook.lm.exact.stepper": ("ExactStepper", "kernel_logits"),
        "codecbook.lm.exact.torch_model": ("ExactTorch",),
    },
)

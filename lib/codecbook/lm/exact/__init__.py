"""Language models in integers: the same logits on every machine; ``docs/exact-lm.md`` is the normative text."""

from codecbook.lm.exact.calibrate import calibration_rows
from codecbook.lm.exact.certificate import Bound, certificate, certificate_lines
from codecbook.lm.exact.export import export_exact
from codecbook.lm.exact.files import load_exact, save_exact
from codecbook.lm.exact.model import ExactConfig, ExactLM
from codecbook.lm.exact.reference import ReferenceEvaluator, reference_logits
from codecbook.lm.exact.stepper import ExactStepper, kernel_logits
from codecbook.lm.exact.torch_model import ExactTorch

__all__ = [
    "Bound", "ExactConfig", "ExactLM", "ExactStepper", "ExactTorch", "ReferenceEvaluator", "calibration_rows",
    "certificate", "certificate_lines", "export_exact", "kernel_logits", "load_exact", "reference_logits", "save_exact",
]  # fmt: skip

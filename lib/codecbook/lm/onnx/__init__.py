"""Language models as ONNX graphs, for onnxruntime and whatever else reads ONNX."""

from codecbook.lm.onnx.export import OnnxLM, export_onnx

__all__ = ["OnnxLM", "export_onnx"]

"""Tuned models as ONNX graphs."""

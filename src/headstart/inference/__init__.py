"""Predict with bundles; requires only numpy, Pillow and onnxruntime."""

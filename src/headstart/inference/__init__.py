"""Predict with bundles; needs numpy, Pillow and onnxruntime only."""

"""Decode, preprocess and augment images: one implementation for training, evaluation, prediction and export."""

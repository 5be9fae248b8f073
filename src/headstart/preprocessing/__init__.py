"""From a file to numbers: one implementation for training, evaluation, prediction and every export."""

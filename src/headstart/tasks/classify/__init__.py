"""Classification: one class per image, by a closed-form probe or a fine-tuned network."""

NAME = "classify"

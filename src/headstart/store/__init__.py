"""Store rows of features and activations on disk, keyed by content."""

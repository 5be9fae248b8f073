"""Export models: bundles, their runtime, and verification."""

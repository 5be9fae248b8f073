"""What is deployed: bundles, the runtime that predicts from them, and the check that both agree."""

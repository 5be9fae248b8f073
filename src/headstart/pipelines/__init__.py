"""One end-to-end pipeline per command."""

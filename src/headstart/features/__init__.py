"""Extract and cache features of frozen backbones."""

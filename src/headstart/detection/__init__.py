"""Train and evaluate object detectors: a feature pyramid and a head on cached maps of a pretrained backbone."""

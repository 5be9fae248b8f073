"""The second task: finding objects, with a pyramid and a head trained on the cached maps of a pretrained backbone."""

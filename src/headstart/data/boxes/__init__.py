"""Read, check, draw and write images with boxes in the formats of annotation tools."""

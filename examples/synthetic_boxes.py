"""Write the synthetic detection dataset of `headstart demo --task detect`.

Photographs of single solar cells (pip package elpv-dataset) are pasted onto blurred enlargements of others.

    python examples/synthetic_boxes.py boxes/
    headstart check boxes/
    headstart show boxes/ --out boxes.png
    headstart train boxes/
"""

from __future__ import annotations

import sys
from pathlib import Path

from headstart.api.demo import LICENSE, write_synthetic_boxes

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python examples/synthetic_boxes.py FOLDER [COUNT]")
    samples = write_synthetic_boxes(Path(sys.argv[1]), count=int(sys.argv[2]) if len(sys.argv) == 3 else 120)
    print(f"{len(samples):,} images with {samples.num_boxes:,} boxes in {sys.argv[1]}; {LICENSE}")

"""Name the array types that many modules exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]  # indices: rows of a dataset, classes or labels
Float: TypeAlias = NDArray[np.float64]  # what statistics compute in: probabilities, scores, weights
Rows: TypeAlias = NDArray[np.floating[Any]]  # [n, d] features of either width
Blocks: TypeAlias = Mapping[str, NDArray[np.float32]]  # feature block name -> [n, d] rows

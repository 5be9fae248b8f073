"""Define the exported linear head: one affine map of the normalized features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.probe.normalize import Normalizer
from headstart.types.arrays import Blocks

__all__ = ["LinearHead"]


@dataclass(frozen=True)
class LinearHead:
    """`softmax((W n(x) + b) / temperature)`.

    Attributes:
        normalizer: The exported normalization `n` of the blocks used by the head.
        weight: (K, D) float32.
        bias: (K,) float32.
        temperature: Positive; logits are divided by it.
    """

    normalizer: Normalizer
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float = 1.0

    @property
    def num_classes(self) -> int:
        return len(self.bias)

    def logits(self, blocks: Blocks) -> NDArray[np.float32]:
        """Return (N, K) float32 logits, divided by the temperature.

        Args:
            blocks: (N, D_b) by block name; those that the head does not use are ignored.

        Raises:
            DataError: A block is missing or of another width.
        """
        raw: NDArray[np.float32] = self.normalizer(blocks) @ self.weight.T
        raw += self.bias
        raw /= np.float32(self.temperature)
        return raw

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (K, D) weight and (K,) bias with the temperature divided in, as exports need them."""
        return self.weight / np.float32(self.temperature), self.bias / np.float32(self.temperature)

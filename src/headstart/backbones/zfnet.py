"""ZFNet as described in its paper; no library has it, and there are no public weights.

The layers follow the paper's figure 3 (224 px, then maps of 110, 55, 26, 13, 13, 13, 13 and 6), which determines the
padding; contrast normalization is AlexNet's local response normalization. Source: Zeiler and Fergus, Visualizing and
Understanding Convolutional Networks, 2013.
"""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["ZFNet"]


class ZFNet(nn.Module):  # type: ignore[misc]
    """Five convolutions and three fully connected layers: 62,357,608 parameters with 1,000 classes.

    Args:
        num_classes: Classes of the last layer.
        in_channels: Channels of the input.
        dropout: Probability, in [0, 1), before the two hidden fully connected layers.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, 7, stride=2, padding=1),  # (B, 96, 110, 110)
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (B, 96, 55, 55)
            nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
            nn.Conv2d(96, 256, 5, stride=2),  # (B, 256, 26, 26)
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),  # (B, 256, 13, 13)
            nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),  # (B, 256, 6, 6)
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))  # identity at 224 px; allows other sizes
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Any) -> Any:
        """Return images (B, C, H, W) to logits (B, K)."""
        return self.classifier(self.avgpool(self.features(x)))

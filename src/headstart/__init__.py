"""Train image models on your own images by transfer learning, with tested accuracy estimates.

    import headstart

    run = headstart.train("photos/")            # a folder with one subfolder per class
    print(run.score)                            # with its 95 % CI and protocol
    run.predict("new_images/").to_csv("answers.csv")

Names are imported lazily, so `import headstart` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart._version import __version__
from headstart.utils.dependencies import disable_telemetry

disable_telemetry()  # before any dependency is imported

_HOME = {
    "train": "headstart.api.functions",
    "load": "headstart.api.functions",
    "compare": "headstart.api.functions",
    "predict": "headstart.api.functions",
    "report": "headstart.api.functions",
    "resume": "headstart.api.functions",
    "evaluate": "headstart.api.functions",
    "check": "headstart.api.data",
    "convert": "headstart.api.data",
    "embed": "headstart.api.data",
    "show": "headstart.api.data",
    "ImageClassifier": "headstart.api.classifier",
    "Detector": "headstart.api.model",
    "Backbone": "headstart.backbones.loading",
    "load_backbone": "headstart.backbones.loading",
    "CancelToken": "headstart.events",
    "HeadstartError": "headstart.errors",
    "Run": "headstart.api.run",
    "Model": "headstart.api.model",
}

__all__ = [
    "Backbone",
    "CancelToken",
    "Detector",
    "HeadstartError",
    "ImageClassifier",
    "Model",
    "Run",
    "__version__",
    "check",
    "compare",
    "convert",
    "embed",
    "evaluate",
    "load",
    "load_backbone",
    "predict",
    "report",
    "resume",
    "show",
    "train",
]

if TYPE_CHECKING:
    from headstart.api.classifier import ImageClassifier
    from headstart.api.data import check, convert, embed, show
    from headstart.api.functions import compare, evaluate, load, predict, report, resume, train
    from headstart.api.model import Detector, Model
    from headstart.api.run import Run
    from headstart.backbones.loading import Backbone, load_backbone
    from headstart.errors import HeadstartError
    from headstart.events import CancelToken


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

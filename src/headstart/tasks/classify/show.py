"""Draw contact sheets of labeled images, as stored or as the network sees them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from headstart.backbones.cards import find_card
from headstart.data.sources import read
from headstart.errors import DataError
from headstart.events import EventStream
from headstart.preprocessing.augmentation import parse_augment
from headstart.quality.contact_sheet import draw_by_class, draw_views
from headstart.quality.report_findings import report_reading
from headstart.tasks.options import ShowOptions
from headstart.training.plan import default_augment

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["show_images"]


def show_images(data: str, options: ShowOptions, events: EventStream) -> Image:
    """Draw random images of each class, as stored or as network inputs; see `Task.show`.

    Raises:
        DataError: There are no images.
    """
    samples = read(data, options, needs_labels=False)
    report_reading(samples, events)
    if not len(samples):
        raise DataError("there are no images to show.")
    draw = partial(draw_by_class, samples, per_class=options.per_class, seed=options.seed)
    if not options.preprocessed and options.num_augmented is None:
        return draw(side=128)
    spec = find_card(options.backbone).image_spec(options.image_size).with_(resize_mode=options.resize_mode)
    if options.num_augmented is None:
        return draw(side=max(spec.size_hw), preprocessed=spec)
    strengths = parse_augment(options.augment if options.augment is not None else default_augment("finetune"))
    count = options.num_augmented
    return draw_views(samples, spec, strengths, count=count, num_images=options.per_class, seed=options.seed)

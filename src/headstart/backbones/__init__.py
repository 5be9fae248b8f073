"""Provide pretrained backbones by name: cards, weights, and uniform stage names."""

from headstart.backbones.cards import DEFAULT_BACKBONE, Card, find_card, list_cards
from headstart.backbones.loading import Backbone, load_backbone, pooled_outputs

__all__ = ["DEFAULT_BACKBONE", "Backbone", "Card", "find_card", "list_cards", "load_backbone", "pooled_outputs"]

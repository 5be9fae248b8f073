"""For every backbone and every cut, `suffix(prefix(x)) == model(x)`."""

from __future__ import annotations

import pytest
import torch

from headstart.backbones import load_backbone, pooled_outputs


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("EfficientNet-Lite0", offline=True)


def test_suffix_of_prefix_is_the_network_at_every_cut(lite0):
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = lite0.module(x)
        for cut in lite0.stage_names:
            assert torch.equal(lite0.suffix(cut)(lite0.prefix(cut)(x)), expected)


def test_pooled_outputs_are_means_of_the_maps(lite0):
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stage5, embedding, logits = pooled_outputs(lite0, ["stage5", "embedding", "logits"])(x)
        assert torch.allclose(stage5, lite0.prefix("stage6")(x).mean((2, 3)), atol=1e-6)
        assert torch.allclose(embedding, lite0.module.forward_head(lite0.module.forward_features(x), pre_logits=True))
        assert torch.equal(logits, lite0.module(x))
    assert embedding.shape == (2, lite0.num_features) == (2, 1280)

"""Every architecture has one entry and one builder, which agree in numbers."""

from __future__ import annotations

from typing import Any

import pytest

from ncpipe.experiment.architectures import ARCHITECTURES

VALUES: dict[str, Any] = {"width": 2, "hidden": [7, 5], "features": 8, "patch": 8, "depth": 2, "heads": 2}


def test_every_entry_has_a_builder_and_every_builder_an_entry() -> None:
    from ncpipe.train.networks import BUILDERS

    assert list(BUILDERS) == list(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 64)])
def test_a_network_is_counted_as_torch_counts_it(name: str, shape: tuple[int, int, int]) -> None:
    from ncpipe.train.networks import build_backbone

    architecture = ARCHITECTURES[name]
    network = {"architecture": name, **{key: VALUES[key] for key in architecture.keys}}
    backbone = build_backbone(network, shape, 11)
    assert architecture.features(network) == backbone.features
    assert architecture.parameters(network, shape, 11) == sum(p.numel() for p in backbone.parameters())

"""Networks: shapes, sizes, initialisation, and values computed without torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn

from ncpipe.train.networks import BasicBlock, build_backbone, build_classifier

SHAPE = (3, 16, 16)
NETWORKS = {
    "cnn": ({"architecture": "cnn", "width": 3}, 12),
    "mlp": ({"architecture": "mlp", "hidden": [20, 10], "features": 7}, 7),
    "mlp without hidden layers": ({"architecture": "mlp", "hidden": [], "features": 5}, 5),
    "resnet18": ({"architecture": "resnet18", "width": 2}, 16),
    "resnet18 with a stride": ({"architecture": "resnet18", "width": 2, "stem_stride": 2}, 16),
}


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("network", "width"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_features_have_their_width_and_are_not_negative(network: dict[str, Any], width: int, training: bool) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(network, SHAPE, 9).train(training)
    features = backbone(torch.rand(9, *SHAPE))
    assert backbone.features == width
    assert features.shape == (9, width)
    assert (features >= 0).all()
    assert (features > 0).any()


def test_free_features_are_one_row_for_each_sample_of_either_sign() -> None:
    torch.manual_seed(0)
    backbone = build_backbone({"architecture": "ufm", "features": 4}, SHAPE, 50)
    everything = backbone(slice(None))
    assert everything.shape == (50, 4)
    assert (everything < 0).any()
    assert (everything > 0).any()
    torch.testing.assert_close(backbone(torch.tensor([7, 3])), everything[[7, 3]])
    assert parameters(backbone) == 200


def test_resnet18_has_the_size_of_the_papers() -> None:
    """Convolutions and two numbers of batch norm a channel, counted layer by layer; no bias anywhere but at the end."""

    def conv_bn(inputs: int, outputs: int, side: int) -> int:
        return inputs * outputs * side**2 + 2 * outputs

    expected = conv_bn(3, 64, 3)
    previous = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        expected += conv_bn(previous, width, 3) + 3 * conv_bn(width, width, 3)
        expected += conv_bn(previous, width, 1) if stage else 0  # the shortcut, where the shape changes
        previous = width
    backbone = build_backbone({"architecture": "resnet18", "width": 64}, (3, 64, 64), 1)
    assert expected == 11_168_832
    assert parameters(backbone) == expected
    assert parameters(build_classifier(512, 10, bias=True)) == 512 * 10 + 10 == 5_130
    assert parameters(build_classifier(512, 10, bias=False)) == 5_120


def test_small_networks_have_the_sizes_of_their_layers() -> None:
    cnn = build_backbone({"architecture": "cnn", "width": 16}, (1, 16, 16), 1)
    assert parameters(cnn) == 9 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 64) + 2 * (16 + 32 + 64 + 64)
    mlp = build_backbone({"architecture": "mlp", "hidden": [512], "features": 64}, (1, 16, 16), 1)
    assert parameters(mlp) == 256 * 512 + 512 + 512 * 64 + 64


@pytest.mark.parametrize(
    ("stem", "expected"), [({}, [16, 16, 16, 8, 8, 4, 4, 2, 2]), ({"stem_stride": 2}, [8, 8, 8, 4, 4, 2, 2, 1, 1])]
)
def test_resnet18_keeps_the_resolution_until_its_strides(stem: dict[str, int], expected: list[int]) -> None:
    """Li's stem has stride 1 and no pooling: 16, 16, 8, 4, 2 pixels."""
    backbone = build_backbone({"architecture": "resnet18", "width": 1} | stem, SHAPE, 1)
    sides, x = [], torch.rand(2, *SHAPE)
    for layer in backbone:
        x = layer(x)
        if isinstance(layer, (nn.Conv2d, BasicBlock)):
            sides.append(x.shape[-1])
    assert sides == expected


def test_seed_decides_the_initialisation() -> None:
    def first_weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_backbone(NETWORKS["cnn"][0], SHAPE, 1).parameters())

    assert torch.equal(first_weights(3), first_weights(3))
    assert not torch.equal(first_weights(3), first_weights(4))


def test_resnet18_is_initialised_as_the_papers() -> None:
    """Kaiming normal by fan-out: variance 2 / (outputs * k^2); batch norm 1 and 0; classifier uniform to 1/sqrt(d)."""
    torch.manual_seed(0)
    for name, value in build_backbone({"architecture": "resnet18", "width": 32}, SHAPE, 1).named_parameters():
        if value.ndim == 4:
            variance = 2 / (value.shape[0] * value.shape[2] * value.shape[3])
            # The variance of n normal draws varies by sqrt(2 / n) of itself: five times that is allowed.
            assert value.var().item() == pytest.approx(variance, rel=5 * (2 / value.numel()) ** 0.5), name
        else:
            assert (value == (1 if name.endswith("weight") else 0)).all(), name
    weight = build_classifier(400, 10, bias=True).weight
    assert weight.abs().max().item() <= 400**-0.5
    assert weight.var().item() == pytest.approx(1 / (3 * 400), rel=0.1)


def test_unknown_architecture() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'vgg'"):
        build_backbone({"architecture": "vgg"}, SHAPE, 1)


# --- values without torch -------------------------------------------------------------------------------------------


def convolve(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Cross-correlation, zero padding that keeps the size; x (N, C, H, W), weight (O, C, k, k)."""
    pad = weight.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    planes = [
        [sum(map(partial(correlate2d, mode="valid"), image, kernels)) for kernels in weight]  # one plane per output
        for image in x
    ]
    return np.array(planes)[:, :, ::stride, ::stride]


class Reference:
    """Layers in numpy, reading parameters by torch's names; in training mode it keeps the running statistics too."""

    def __init__(self, module: nn.Module, *, training: bool) -> None:
        self.state = {name: value.numpy().copy() for name, value in module.state_dict().items()}
        self.training = training

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        p = {key: self.state[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
        if self.training:
            n = x.size / x.shape[1]
            mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
            self.state[f"{name}.running_mean"] = 0.9 * p["running_mean"] + 0.1 * mean
            self.state[f"{name}.running_var"] = 0.9 * p["running_var"] + 0.1 * var * n / (n - 1)
        else:
            mean, var = p["running_mean"], p["running_var"]
        scale = p["weight"] / np.sqrt(var + 1e-5)
        return x * scale[:, None, None] + (p["bias"] - mean * scale)[:, None, None]

    def conv_norm(self, x: np.ndarray, conv: str, norm: str, stride: int) -> np.ndarray:
        return self.norm(convolve(x, self.state[f"{conv}.weight"], stride), norm)

    def cnn(self, x: np.ndarray) -> np.ndarray:
        for layer, stride in enumerate((1, 2, 1, 2)):
            x = np.maximum(self.conv_norm(x, f"{3 * layer}", f"{3 * layer + 1}", stride), 0)
        return x.mean(axis=(2, 3))

    def resnet18(self, x: np.ndarray) -> np.ndarray:
        x = np.maximum(self.conv_norm(x, "0", "1", 1), 0)
        for block in range(8):
            name, stride = f"{3 + block}", 2 if block in (2, 4, 6) else 1
            y = np.maximum(self.conv_norm(x, f"{name}.conv1", f"{name}.bn1", stride), 0)
            y = self.conv_norm(y, f"{name}.conv2", f"{name}.bn2", 1)
            shortcut = self.conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", 2) if stride == 2 else x
            x = np.maximum(y + shortcut, 0)
        return x.mean(axis=(2, 3))

    def mlp(self, x: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), -1)
        for layer in (1, 3, 5):
            x = np.maximum(x @ self.state[f"{layer}.weight"].T + self.state[f"{layer}.bias"], 0)
        return x


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ["cnn", "resnet18", "mlp"])
def test_values_agree_with_numpy(name: str, training: bool) -> None:
    """Random weights and running statistics, float64; convolutions by scipy, batch norm by its formula."""
    torch.manual_seed(1)
    backbone = build_backbone(NETWORKS[name][0], (2, 16, 16), 1).double()
    with torch.no_grad():
        for key, value in backbone.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5 if key.endswith("var") else 0.6 * torch.randn_like(value))
    reference = Reference(backbone, training=training)
    images = torch.rand(4, 2, 16, 16, dtype=torch.float64)
    features = backbone.train(training)(images.contiguous(memory_format=torch.channels_last))
    np.testing.assert_allclose(features.detach(), getattr(reference, name)(images.numpy()), rtol=1e-9, atol=1e-12)
    assert features.detach().abs().max() > 1e-3
    for key, value in backbone.state_dict().items():
        if "running" in key:
            np.testing.assert_allclose(value, reference.state[key], rtol=1e-9, err_msg=key)

"""The networks: a backbone that maps images to features, and a linear classifier on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class ConvNet(nn.Sequential):
    """Small batch-norm CNN: width → 2·width (stride 2) → 4·width → 4·width (stride 2) → average pool.

    Input (N, C, H, W) in [0, 1]; features (N, 4·width), all >= 0.
    """

    def __init__(self, channels: int, width: int) -> None:
        widths, strides = (width, 2 * width, 4 * width, 4 * width), (1, 2, 1, 2)
        layers: list[nn.Module] = []
        for out, stride in zip(widths, strides, strict=True):
            layers += [
                nn.Conv2d(channels, out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
            channels = out
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.features = channels


class MLP(nn.Sequential):
    """Flattened pixels through hidden ReLU layers; the features are the last ReLU layer, (N, features), all >= 0."""

    def __init__(self, inputs: int, hidden: list[int], features: int) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for out in [*hidden, features]:
            layers += [nn.Linear(inputs, out), nn.ReLU(inplace=True)]
            inputs = out
        super().__init__(*layers)
        self.features = features


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut, as in He et al. (2016)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if stride != 1 or channels != out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Sequential):
    """ResNet-18 with Li's stem: 3×3, stride 1, no max-pool. Features (N, 8·width), d = 512 at width 64, all >= 0.

    A `stem_stride` of 2 quarters the cost of everything behind the stem: for the CPU.
    """

    def __init__(self, channels: int, width: int, stem_stride: int = 1) -> None:
        stages = []
        previous = width
        for stage in range(4):
            out = width * 2**stage
            stages += [BasicBlock(previous, out, 1 if stage == 0 else 2), BasicBlock(out, out, 1)]
            previous = out
        super().__init__(
            nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.features = previous
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class FreeFeatures(nn.Module):
    """The unconstrained features model: one free feature per training sample, (N, features), of either sign.

    Called with sample indices instead of images.
    """

    def __init__(self, samples: int, features: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(samples, features) / features**0.5)
        self.features = features

    def forward(self, index: Tensor) -> Tensor:
        """Return the features of the samples at `index`."""
        return self.value[index]


def build_backbone(network: Mapping[str, Any], image_shape: tuple[int, int, int], samples: int) -> nn.Module:
    """Build the backbone of a validated ``networks`` entry; `image_shape` is (channels, height, width).

    Initialisation draws from torch's global CPU generator: seed it first.
    """
    channels, height, width = image_shape
    match network["architecture"]:
        case "cnn":
            return ConvNet(channels, network["width"])
        case "mlp":
            return MLP(channels * height * width, list(network["hidden"]), network["features"])
        case "resnet18":
            return ResNet18(channels, network["width"], network.get("stem_stride", 1))
        case "ufm":
            return FreeFeatures(samples, network["features"])
        case unknown:
            raise ValueError(f"unknown architecture {unknown!r}")


def build_classifier(features: int, classes: int, *, bias: bool) -> nn.Linear:
    """Linear classifier, torch's default initialisation."""
    return nn.Linear(features, classes, bias=bias)

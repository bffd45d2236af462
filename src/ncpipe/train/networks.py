"""The networks: a backbone that maps images to features, and a linear classifier on top."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ncpipe.errors import check_choice
from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.objective.losses import simplex_etf
from ncpipe.objective.settings import Classifier


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
    """Two 3×3 convolutions with a shortcut, as in He et al. (2016): (N, channels, H, W) to (N, planes, H/s, W/s)."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = shortcut(channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of `x` to its shortcut."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with a shortcut: (N, channels, H, W) to (N, 4·planes, H/s, W/s).

    The stride is on the 3×3 convolution, as in torchvision, not on the first as in He et al. (2016).
    """

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        out = self.expansion * planes
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of `x` to its shortcut."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(channels: int, out: int, stride: int) -> nn.Module:
    """Leave `x` alone where its shape stays; else a 1×1 convolution with batch norm."""
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class ResNet(nn.Sequential):
    """ResNet-18, 34 or 50 with Li's stem: 3×3, stride 1, no max-pool.

    Features (N, 8·width) or, with bottlenecks, (N, 32·width): 512 or 2,048 at width 64; all >= 0. A `stem_stride` of 2
    quarters the cost of everything behind the stem: for the CPU.
    """

    def __init__(self, architecture: str, channels: int, width: int, stem_stride: int = 1) -> None:
        block = Bottleneck if architecture == "resnet50" else BasicBlock
        blocks: list[nn.Module] = []
        previous = width
        for stage, depth in enumerate(ARCHITECTURES[architecture].depths):
            planes = width * 2**stage
            for position in range(depth):
                blocks.append(block(previous, planes, 2 if stage and not position else 1))
                previous = block.expansion * planes
        super().__init__(
            nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.features = previous
        _initialise_convolutions(self)


class VGG16(nn.Sequential):
    """VGG-16 with batch norm: thirteen 3×3 convolutions, a 2×2 max-pool after each of five stages, average pool.

    Features (N, 8·width), d = 512 at width 64, all >= 0. Sides of the image: at least 32. The fully connected layers of
    Simonyan and Zisserman (2015) are not there, nor the biases that batch norm would cancel.
    """

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = []
        for stage, depth in enumerate(ARCHITECTURES["vgg16"].depths):
            out = min(2**stage, 8) * width
            for _ in range(depth):
                layers += [nn.Conv2d(channels, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
                channels = out
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.features = channels
        _initialise_convolutions(self)


def _initialise_convolutions(network: nn.Module) -> None:
    """Kaiming normal by fan-out, as Li and torchvision; batch norm starts at 1 and 0 by itself."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class TransformerBlock(nn.Module):
    """Self-attention, then a GELU layer of four times the width, each behind a layer norm and added to its input."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(features)
        self.qkv = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = nn.Sequential(nn.Linear(features, 4 * features), nn.GELU(), nn.Linear(4 * features, features))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, T, d) to tokens (N, T, d)."""
        shape = (*x.shape[:2], 3, self.heads, -1)
        query, key, value = self.qkv(self.norm1(x)).view(shape).permute(2, 0, 3, 1, 4)  # each (N, heads, T, d / heads)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Small vision transformer (Dosovitskiy et al., 2021) without a class token: the mean over tokens is the feature.

    Patches (not overlapping, linear) plus learned positions, blocks with their norms first, the mean over tokens and,
    where a transformer has its last layer norm, a batch norm. Behind a layer norm most of the mean is common to all
    samples; the feature penalty shrinks it to nothing, the differences with it, and training stays near h = 0.
    Features (N, features), **of either sign**: no ReLU comes before them.
    """

    def __init__(self, image_shape: tuple[int, int, int], *, patch: int, depth: int, heads: int, features: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.patches = nn.Conv2d(channels, features, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, (height // patch) * (width // patch), features))
        self.blocks = nn.Sequential(*(TransformerBlock(features, heads) for _ in range(depth)))
        self.norm = nn.BatchNorm1d(features)
        self.features = features
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to features (N, d)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions  # (N, T, d)
        return self.norm(self.blocks(tokens).mean(1))


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


Builder = Callable[[Mapping[str, Any], tuple[int, int, int], int], nn.Module]


def _resnet(network: Mapping[str, Any], shape: tuple[int, int, int], samples: int) -> nn.Module:
    return ResNet(network["architecture"], shape[0], network["width"], network.get("stem_stride", 1))


def _vit(network: Mapping[str, Any], shape: tuple[int, int, int], samples: int) -> nn.Module:
    return ViT(shape, **{key: network[key] for key in ("patch", "depth", "heads", "features")})


# One for each entry of `ARCHITECTURES`, of the same name.
BUILDERS: dict[str, Builder] = {
    "cnn": lambda network, shape, samples: ConvNet(shape[0], network["width"]),
    "mlp": lambda network, shape, samples: MLP(math.prod(shape), list(network["hidden"]), network["features"]),
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
    "vgg16": lambda network, shape, samples: VGG16(shape[0], network["width"]),
    "vit": _vit,
    "ufm": lambda network, shape, samples: FreeFeatures(samples, network["features"]),
}


def build_backbone(network: Mapping[str, Any], image_shape: tuple[int, int, int], samples: int) -> nn.Module:
    """Build the backbone of a validated ``networks`` entry; `image_shape` is (channels, height, width).

    Initialisation draws from torch's global CPU generator: seed it first.

    Raises
    ------
    InputError
        If the architecture is unknown.
    """
    check_choice("architecture", network["architecture"], list(BUILDERS))
    return BUILDERS[network["architecture"]](network, image_shape, samples)


def build_classifier(features: int, classes: int, *, bias: bool, kind: Classifier = "learned") -> nn.Linear:
    """Linear classifier, torch's default initialisation; its weight fixed to a simplex ETF for kind ``etf``."""
    classifier = nn.Linear(features, classes, bias=bias)
    if kind == "etf":
        weight = torch.from_numpy(simplex_etf(classes, features).astype(np.float32))
        classifier.weight = nn.Parameter(weight, requires_grad=False)
    return classifier

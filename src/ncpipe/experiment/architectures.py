"""The architectures that a configuration can name, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


def has_signed_features(architecture: str) -> bool:
    """Whether features of a network are of either sign; all others come out of a ReLU, where (7) has a higher minimum.

    Parameters
    ----------
    architecture : str
        Of an entry of ``networks`` in the configuration.
    """
    return architecture in ("ufm", "vit")


_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
_VGG = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # width over that of the first layer, convolutions


class Size(NamedTuple):
    """A network in numbers: feature width d, parameters, batch norm's statistics, and arrays that hold them."""

    features: int
    parameters: int
    statistics: int
    arrays: int


class _Counter:
    """Adds layers up."""

    def __init__(self) -> None:
        self.parameters = self.statistics = self.arrays = 0

    def convolution(self, channels: int, out: int, side: int) -> None:
        self.parameters += side * side * channels * out
        self.arrays += 1

    def linear(self, inputs: int, out: int) -> None:
        self.parameters += (inputs + 1) * out
        self.arrays += 2

    def norm(self, channels: int, *, batch: bool = True) -> None:
        self.parameters += 2 * channels
        self.statistics += (2 * channels + 2) * batch  # mean, variance, and a count of 8 bytes
        self.arrays += 5 if batch else 2

    def block(self, channels: int, planes: int, *, bottleneck: bool) -> int:
        """A residual block; returns its channels."""
        out = 4 * planes if bottleneck else planes
        widths = ((planes, 1), (planes, 3), (out, 1)) if bottleneck else ((planes, 3), (planes, 3))
        inputs = channels
        for width, side in widths:
            self.convolution(inputs, width, side)
            self.norm(width)
            inputs = width
        return out


def network_size(network: Mapping[str, Any], image_shape: tuple[int, int, int], samples: int) -> Size:
    """Size of the backbone of a validated ``networks`` entry.

    Parameters
    ----------
    network : mapping
    image_shape : tuple of int
        Channels, height, width.
    samples : int
        Of the training split: the unconstrained features model has a feature for each.
    """
    channels, height, side = image_shape
    count = _Counter()
    match network["architecture"]:
        case "cnn":
            for multiple in (1, 2, 4, 4):
                out = multiple * network["width"]
                count.convolution(channels, out, 3)
                count.norm(out)
                channels = out
        case "mlp":
            channels *= height * side
            for out in (*network["hidden"], network["features"]):
                count.linear(channels, out)
                channels = out
        case "resnet18" | "resnet34" | "resnet50" as architecture:
            bottleneck = architecture == "resnet50"
            count.convolution(channels, network["width"], 3)
            count.norm(network["width"])
            channels = network["width"]
            for stage, depth in enumerate(_DEPTHS[architecture]):
                planes = network["width"] * 2**stage
                for position in range(depth):
                    out = count.block(channels, planes, bottleneck=bottleneck)
                    if (stage and not position) or channels != out:  # the shortcut changes stride or channels
                        count.convolution(channels, out, 1)
                        count.norm(out)
                    channels = out
        case "vgg16":
            for multiple, depth in _VGG:
                for _ in range(depth):
                    out = multiple * network["width"]
                    count.convolution(channels, out, 3)
                    count.norm(out)
                    channels = out
        case "vit":
            patch, width = network["patch"], network["features"]
            count.linear(channels * patch * patch, width)
            count.parameters += (height // patch) * (side // patch) * width
            count.arrays += 1
            for _ in range(network["depth"]):
                count.norm(width, batch=False)
                count.norm(width, batch=False)
                for inputs, out in ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)):
                    count.linear(inputs, out)
            count.norm(width)
            channels = width
        case "ufm":
            channels = network["features"]
            count.parameters, count.arrays = samples * channels, 1
        case unknown:
            raise ValueError(f"unknown architecture {unknown!r}")
    return Size(channels, count.parameters, count.statistics, count.arrays)


NETWORK_KEYS = {
    "cnn": ("width",),
    "mlp": ("hidden", "features"),
    "resnet18": ("width",),
    "resnet34": ("width",),
    "resnet50": ("width",),
    "vgg16": ("width",),
    "vit": ("patch", "depth", "heads", "features"),
    "ufm": ("features",),
}
RESNETS = ("resnet18", "resnet34", "resnet50")
OPTIONAL_NETWORK_KEYS = dict.fromkeys(RESNETS, ("stem_stride",))
VGG_SIDE = 32  # pixels: five poolings halve it to 1


def batch_norm_side(network: Mapping[str, Any], side: int) -> int | None:
    """Height and width of what the last batch norm of a network sees; None for one without.

    Parameters
    ----------
    network : mapping
        Entry of ``networks``.
    side : int
        Height and width of the images, pixels.
    """
    match network["architecture"]:
        case "cnn":
            return -(-side // 4)
        case "vgg16":
            return side // 16
        case "vit":
            return 1
        case architecture if architecture in RESNETS:
            return -(-side // (8 * network.get("stem_stride", 1)))
    return None

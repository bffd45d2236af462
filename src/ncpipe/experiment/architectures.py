"""The architectures that a configuration can name: one entry each, in numbers. `ncpipe.train.networks` builds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Network = Mapping[str, Any]  # an entry of ``networks`` in a validated configuration
ImageShape = tuple[int, int, int]  # channels, height, width


def _no_batch_norm(network: Network, side: int) -> int | None:
    return None


@dataclass(frozen=True)
class Architecture:
    """What configuration, disk estimate and theory need to know of an architecture.

    Parameters
    ----------
    keys, optional : tuple of str
        Of an entry of ``networks``, beside ``architecture``, ``objective`` and ``recipe``.
    features : callable
        Feature width d of a network.
    parameters : callable
        How many parameters its backbone has, for images of a shape and a number of training samples.
    batch_norm_side : callable
        Height and width of what the last batch norm of a network sees on images of a side; None without batch norm.
    depths : tuple of int
        Layers or blocks of each stage.
    smallest_side : int
        Height and width of the smallest images that it takes, pixels.
    signed : bool
        Whether features are of either sign; all others come out of a ReLU, where (7) has a higher minimum.
    free : bool
        Whether features are free parameters, one for each training sample: no images, no test split.
    """

    keys: tuple[str, ...]
    features: Callable[[Network], int]
    parameters: Callable[[Network, ImageShape, int], int]
    optional: tuple[str, ...] = ()
    batch_norm_side: Callable[[Network, int], int | None] = _no_batch_norm
    depths: tuple[int, ...] = ()
    smallest_side: int = 1
    signed: bool = False
    free: bool = False


def _convolution(channels: int, out: int, side: int = 3) -> int:
    """Parameters of a convolution without bias and of the batch norm behind it."""
    return side * side * channels * out + 2 * out


def _linear(inputs: int, out: int) -> int:
    return (inputs + 1) * out


def _cnn_parameters(network: Network, shape: ImageShape, samples: int) -> int:
    width = network["width"]
    return sum(_convolution(*ends) for ends in pairwise((shape[0], width, 2 * width, 4 * width, 4 * width)))


def _mlp_parameters(network: Network, shape: ImageShape, samples: int) -> int:
    channels, height, width = shape
    return sum(
        _linear(*ends) for ends in pairwise((channels * height * width, *network["hidden"], network["features"]))
    )


def _vgg_parameters(depths: Sequence[int]) -> Callable[[Network, ImageShape, int], int]:
    def parameters(network: Network, shape: ImageShape, samples: int) -> int:
        widths = [network["width"] * min(2**stage, 8) for stage, depth in enumerate(depths) for _ in range(depth)]
        return sum(_convolution(*ends) for ends in pairwise((shape[0], *widths)))

    return parameters


def _vit_parameters(network: Network, shape: ImageShape, samples: int) -> int:
    (channels, height, side), patch, width = shape, network["patch"], network["features"]
    positions = (height // patch) * (side // patch) * width
    layers = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    block = 2 * 2 * width + sum(_linear(*ends) for ends in layers)
    return _linear(channels * patch * patch, width) + positions + network["depth"] * block + 2 * width


def _resnet(*depths: int, bottleneck: bool = False) -> Architecture:
    expansion = 4 if bottleneck else 1

    def block(channels: int, planes: int) -> int:
        out = expansion * planes
        if bottleneck:
            return _convolution(channels, planes, 1) + _convolution(planes, planes) + _convolution(planes, out, 1)
        return _convolution(channels, planes) + _convolution(planes, planes)

    def parameters(network: Network, shape: ImageShape, samples: int) -> int:
        channels = network["width"]
        total = _convolution(shape[0], channels)
        for stage, depth in enumerate(depths):
            planes = network["width"] * 2**stage
            out = expansion * planes
            if stage or channels != out:  # the first shortcut changes stride or channels
                total += _convolution(channels, out, 1)
            total += block(channels, planes) + (depth - 1) * block(out, planes)
            channels = out
        return total

    return Architecture(
        keys=("width",),
        optional=("stem_stride",),
        features=lambda network: 8 * expansion * int(network["width"]),
        parameters=parameters,
        batch_norm_side=lambda network, side: -(-side // (8 * network.get("stem_stride", 1))),
        depths=depths,
    )


ARCHITECTURES = {
    "cnn": Architecture(
        keys=("width",),
        features=lambda network: 4 * int(network["width"]),
        parameters=_cnn_parameters,
        batch_norm_side=lambda network, side: -(-side // 4),
    ),
    "mlp": Architecture(
        keys=("hidden", "features"),
        features=lambda network: int(network["features"]),
        parameters=_mlp_parameters,
    ),
    "resnet18": _resnet(2, 2, 2, 2),
    "resnet34": _resnet(3, 4, 6, 3),
    "resnet50": _resnet(3, 4, 6, 3, bottleneck=True),
    "vgg16": Architecture(
        keys=("width",),
        features=lambda network: 8 * int(network["width"]),
        parameters=_vgg_parameters((2, 2, 3, 3, 3)),
        batch_norm_side=lambda network, side: side // 16,
        depths=(2, 2, 3, 3, 3),
        smallest_side=32,  # five poolings halve it to 1
    ),
    "vit": Architecture(
        keys=("features", "patch", "depth", "heads"),
        features=lambda network: int(network["features"]),
        parameters=_vit_parameters,
        batch_norm_side=lambda network, side: 1,
        signed=True,
    ),
    "ufm": Architecture(
        keys=("features",),
        features=lambda network: int(network["features"]),
        parameters=lambda network, shape, samples: samples * int(network["features"]),
        signed=True,
        free=True,
    ),
}

"""Networks: shapes, sizes, initialisation, and values computed without torch."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from scipy.special import erf, softmax
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.train.networks import BasicBlock, build_backbone, build_classifier

SHAPE = (3, 16, 16)
VGG_SHAPE = (3, 32, 32)  # five poolings
NETWORKS = {
    "cnn": ({"architecture": "cnn", "width": 3}, 12),
    "mlp": ({"architecture": "mlp", "hidden": [20, 10], "features": 7}, 7),
    "mlp without hidden layers": ({"architecture": "mlp", "hidden": [], "features": 5}, 5),
    "resnet18": ({"architecture": "resnet18", "width": 2}, 16),
    "resnet18 with a stride": ({"architecture": "resnet18", "width": 2, "stem_stride": 2}, 16),
    "resnet34": ({"architecture": "resnet34", "width": 2}, 16),
    "resnet50": ({"architecture": "resnet50", "width": 2}, 64),
    "vgg16": ({"architecture": "vgg16", "width": 2}, 16),
    "vit": ({"architecture": "vit", "patch": 4, "depth": 2, "heads": 3, "features": 12}, 12),
}


def image_shape(network: dict[str, Any]) -> tuple[int, int, int]:
    return VGG_SHAPE if network["architecture"] == "vgg16" else SHAPE


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("network", "width"), NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_features_have_their_width_and_sign(network: dict[str, Any], width: int, training: bool) -> None:
    """Which reference optimum a network is measured against rests on the sign of its features."""
    torch.manual_seed(0)
    backbone = build_backbone(network, image_shape(network), 9).train(training)
    features = backbone(torch.rand(9, *image_shape(network)))
    assert backbone.features == width
    assert features.shape == (9, width)
    assert (features < 0).any() == ARCHITECTURES[network["architecture"]].signed
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


def conv_bn(inputs: int, outputs: int, side: int) -> int:
    """Parameters of a convolution without bias and of its batch norm, two numbers a channel."""
    return inputs * outputs * side**2 + 2 * outputs


def size(network: dict[str, Any], shape: tuple[int, int, int]) -> int:
    """Parameters of a backbone, which is not initialised: that would take seconds for the large ones."""
    with torch.device("meta"):
        return parameters(build_backbone(network, shape, 1))


def test_resnet18_has_the_size_of_the_papers() -> None:
    """Counted layer by layer; no bias anywhere but at the end."""
    expected = conv_bn(3, 64, 3)
    previous = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        expected += conv_bn(previous, width, 3) + 3 * conv_bn(width, width, 3)
        expected += conv_bn(previous, width, 1) if stage else 0  # the shortcut, where the shape changes
        previous = width
    assert expected == 11_168_832
    assert size({"architecture": "resnet18", "width": 64}, (3, 64, 64)) == expected
    assert parameters(build_classifier(512, 10, bias=True)) == 512 * 10 + 10 == 5_130
    assert parameters(build_classifier(512, 10, bias=False)) == 5_120


# What torchvision's networks of these names have in all (its documentation), for ImageNet.
TORCHVISION = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "vgg16_bn": 138_365_992}


@pytest.mark.parametrize(("name", "features"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_residual_networks_have_the_sizes_of_torchvision(name: str, features: int) -> None:
    """But for the 7 x 7 stem, which is 3 x 3 here, and the 1,000 classes with their biases."""
    expected = TORCHVISION[name] - 3 * 64 * (7**2 - 3**2) - 1000 * (features + 1)
    assert size({"architecture": name, "width": 64}, (3, 64, 64)) == expected


def test_vgg16_has_the_size_of_torchvision() -> None:
    """But for its three fully connected layers, and a bias a channel that batch norm cancels."""
    channels = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    connected = (512 * 7**2 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    expected = TORCHVISION["vgg16_bn"] - connected - sum(channels)
    assert expected == sum(conv_bn(i, o, 3) for i, o in zip([3, *channels], channels, strict=False))
    assert size({"architecture": "vgg16", "width": 64}, (3, 64, 64)) == expected


def test_vit_has_the_size_of_the_standard_one() -> None:
    """ViT-B/16 at 224 pixels has 86,567,656 in torchvision: here less the class token, its position and the head."""
    d, tokens = 768, (224 // 16) ** 2
    network = {"architecture": "vit", "patch": 16, "depth": 12, "heads": 12, "features": d}
    assert size(network, (3, 224, 224)) == 86_567_656 - d - d - 1000 * (d + 1)
    block = 2 * 2 * d + (d + 1) * 3 * d + (d + 1) * d + (d + 1) * 4 * d + (4 * d + 1) * d
    assert size(network, (3, 224, 224)) == (3 * 16**2 + 1) * d + tokens * d + 12 * block + 2 * d


PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
COSTS = {
    name: tuple(cost) for name, *cost in re.findall(r"^\| \*\*(\w+)\*\* \| (\S+) \| (\S+) \| (\S+) \|$", PAGE, re.M)
}


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "vgg16", "vit"])
def test_networks_cost_what_the_documentation_says(name: str) -> None:
    """Counted by torch on tensors without values: parameters, operations of a step, what it saves for its backward."""
    settings = {"patch": 8, "depth": 6, "heads": 6, "features": 384} if name == "vit" else {"width": 64}
    batch = 8
    with torch.device("meta"):
        backbone = build_backbone({"architecture": name, **settings}, (3, 64, 64), 1)
        images = torch.rand(batch, 3, 64, 64)
    saved = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[id(tensor.untyped_storage())] = tensor  # alive, so that no two have the same id
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone(images).sum().backward()
    own = {id(p.untyped_storage()) for p in backbone.parameters()}
    held = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in own)
    found = parameters(backbone) / 1e6, counter.get_total_flops() / batch / 1e9, held / batch / 1e6
    assert COSTS[name] == (f"{found[0]:.1f}", f"{found[1]:.1f}", f"{found[2]:.0f}")


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


@pytest.mark.parametrize("name", NETWORKS)
def test_memory_layout_changes_no_value(name: str) -> None:
    """Training has networks and images in channels_last."""
    torch.manual_seed(0)
    shape = image_shape(NETWORKS[name][0])
    backbone = build_backbone(NETWORKS[name][0], shape, 1).double().eval()
    images = torch.rand(3, *shape, dtype=torch.float64)
    expected = backbone(images)
    backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(backbone(images.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith("mlp")])
def test_side_of_the_last_batch_norm(name: str) -> None:
    """The configuration check of batches with one sample knows how far each network halves its images."""
    network, sides = NETWORKS[name][0], []
    side = image_shape(network)[1] + 4  # 20, 36: not powers of two, still whole patches
    backbone = build_backbone(network, (3, side, side), 1).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.register_forward_hook(lambda m, x, y: sides.append(y.shape[2] if y.ndim == 4 else 1))
    backbone(torch.rand(1, 3, side, side))
    assert ARCHITECTURES[network["architecture"]].batch_norm_side(network, side) == sides[-1] == min(sides)


def test_side_is_known_of_every_architecture_with_batch_norm() -> None:
    assert {n["architecture"] for n, _ in NETWORKS.values()} == ARCHITECTURES.keys() - {"ufm"}
    assert ARCHITECTURES["mlp"].batch_norm_side({}, 16) is None
    assert ARCHITECTURES["ufm"].batch_norm_side({}, 16) is None


def test_seed_decides_the_initialisation() -> None:
    def first_weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build_backbone(NETWORKS["cnn"][0], SHAPE, 1).parameters())

    assert torch.equal(first_weights(3), first_weights(3))
    assert not torch.equal(first_weights(3), first_weights(4))


@pytest.mark.parametrize(("architecture", "width"), [("resnet18", 32), ("resnet50", 8), ("vgg16", 16)])
def test_networks_are_initialised_as_the_papers(architecture: str, width: int) -> None:
    """Kaiming normal by fan-out: variance 2 / (outputs * k^2); batch norm 1 and 0; classifier uniform to 1/sqrt(d)."""
    torch.manual_seed(0)
    for name, value in build_backbone({"architecture": architecture, "width": width}, SHAPE, 1).named_parameters():
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
    with pytest.raises(ValueError, match="architecture: found 'vgg19'; did you mean 'vgg16'"):
        build_backbone({"architecture": "vgg19"}, SHAPE, 1)


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

    def layer_norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def resnet50(self, x: np.ndarray) -> np.ndarray:
        x = np.maximum(self.conv_norm(x, "0", "1", 1), 0)
        for block in range(3 + 4 + 6 + 3):
            name, first = f"{3 + block}", block in (0, 3, 7, 13)  # the first block of each stage changes the shape
            stride = 2 if first and block else 1
            y = np.maximum(self.conv_norm(x, f"{name}.conv1", f"{name}.bn1", 1), 0)
            y = np.maximum(self.conv_norm(y, f"{name}.conv2", f"{name}.bn2", stride), 0)
            y = self.conv_norm(y, f"{name}.conv3", f"{name}.bn3", 1)
            shortcut = self.conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if first else x
            x = np.maximum(y + shortcut, 0)
        return x.mean(axis=(2, 3))

    def vgg16(self, x: np.ndarray) -> np.ndarray:
        layer = 0
        for depth in (2, 2, 3, 3, 3):
            for _ in range(depth):
                x = np.maximum(self.conv_norm(x, f"{layer}", f"{layer + 1}", 1), 0)
                layer += 3  # convolution, batch norm, ReLU
            x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max(axis=(3, 5))
            layer += 1
        return x.mean(axis=(2, 3))

    def vit(self, x: np.ndarray) -> np.ndarray:
        """Patches, attention head by head as sums over tokens, GELU by the error function, the mean, batch norm."""
        patch, heads = 4, 3
        kernels = self.state["patches.weight"]  # (d, C, 4, 4)
        corners = [(i, j) for i in range(0, x.shape[2], patch) for j in range(0, x.shape[3], patch)]
        patches = np.stack([x[:, :, i : i + patch, j : j + patch] for i, j in corners], 1)  # (N, T, C, 4, 4)
        tokens = np.einsum("ntcij,dcij->ntd", patches, kernels) + self.state["patches.bias"] + self.state["positions"]
        width = tokens.shape[2] // heads
        for block in ("blocks.0", "blocks.1"):
            qkv = self.linear(self.layer_norm(tokens, f"{block}.norm1"), f"{block}.qkv")  # (N, T, 3 d)
            parts = []
            for head in range(heads):
                q, k, v = (qkv[:, :, (part * heads + head) * width :][:, :, :width] for part in range(3))
                scores = np.einsum("nqe,nke->nqk", q, k) / np.sqrt(width)
                parts.append(np.einsum("nqk,nke->nqe", softmax(scores, axis=2), v))
            tokens = tokens + self.linear(np.concatenate(parts, axis=2), f"{block}.out")
            y = self.linear(self.layer_norm(tokens, f"{block}.norm2"), f"{block}.mlp.0")
            tokens = tokens + self.linear(y * (1 + erf(y / np.sqrt(2))) / 2, f"{block}.mlp.2")
        return self.norm(tokens.mean(1)[:, :, None, None], "norm")[:, :, 0, 0]

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
@pytest.mark.parametrize("name", ["cnn", "resnet18", "resnet50", "vgg16", "vit", "mlp"])
def test_values_agree_with_numpy(name: str, training: bool) -> None:
    """Random weights and running statistics, float64; convolutions by scipy, batch norm by its formula."""
    torch.manual_seed(1)
    side = image_shape(NETWORKS[name][0])[1]
    backbone = build_backbone(NETWORKS[name][0], (2, side, side), 1).double()
    with torch.no_grad():
        for key, value in backbone.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5 if key.endswith("var") else 0.6 * torch.randn_like(value))
    reference = Reference(backbone, training=training)
    images = torch.rand(4, 2, side, side, dtype=torch.float64)
    features = backbone.train(training)(images.contiguous(memory_format=torch.channels_last))
    np.testing.assert_allclose(features.detach(), getattr(reference, name)(images.numpy()), rtol=1e-9, atol=1e-12)
    assert features.detach().abs().max() > 1e-3
    for key, value in backbone.state_dict().items():
        if "running" in key:
            np.testing.assert_allclose(value, reference.state[key], rtol=1e-9, err_msg=key)

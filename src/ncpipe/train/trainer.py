"""One run in memory: forward, backward and step over the batches of an epoch, and what a checkpoint holds.

Nothing random is carried from epoch to epoch: the order of epoch e is a function of (seed, e).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ncpipe.errors import DivergenceError
from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.experiment.plan import DEFAULT_FEATURE_PENALTY, Run
from ncpipe.streams import permutations, stream
from ncpipe.train.arithmetic import LossScale, autocast
from ncpipe.train.compiled import compile_backbone
from ncpipe.train.networks import build_backbone, build_classifier
from ncpipe.train.objective import batch_loss, error_and_score, objective_terms
from ncpipe.train.optimiser import ParameterGroup, learning_rate
from ncpipe.train.splits import Split, pixels
from ncpipe.train.stop import Stop

EVALUATION_BATCH = 1024  # images, on a CPU
EVALUATION_PIXELS = 1 << 22  # on CUDA: 1,024 images of 64 x 64, 16,384 of 16 x 16; about 4 GB in ResNet-18
BATCHES_AT_ONCE = 4


class Trainer:
    """One run in memory: backbone, classifier, optimiser and position. Its state is a header and plain arrays."""

    def __init__(self, settings: Mapping[str, Any], train: Split, device: torch.device) -> None:
        self.settings, self.train, self.device = settings, train, device
        network, objective, recipe = settings["network"], settings["objective"], settings["recipe"]
        self.free = ARCHITECTURES[network["architecture"]].free
        self.epochs: int = settings["epochs"]
        self.batch = len(train) if recipe["batch"] == "full" else min(int(recipe["batch"]), len(train))
        self.lambda_h, self.loss = float(objective["lambda_h"]), objective["loss"]
        height, width, channels = train.images.shape[1:]
        torch.manual_seed(settings["seed"])
        backbone = build_backbone(network, (channels, height, width), len(train))
        self.classifier = build_classifier(
            int(backbone.features),  # type: ignore[arg-type]
            train.labels.shape[1],
            bias=objective["bias"],
            kind=objective.get("classifier", "learned"),
        ).to(device)
        self.backbone = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        weight, bias = self.classifier.weight, self.classifier.bias
        # The feature penalty is the free features' only decay, and their gradient carries 1/N: hence lr × N.
        self.groups = [
            ParameterGroup(
                list(self.backbone.parameters()),
                weight_decay=0.0 if self.free else float(recipe["weight_decay"]),
                lr_scale=len(train) if self.free else 1,
            ),
            ParameterGroup([weight] if weight.requires_grad else [], weight_decay=float(objective["lambda_w"])),
            ParameterGroup([] if bias is None else [bias], weight_decay=float(objective["lambda_b"])),
        ]
        self.precision: str = recipe.get("precision", "float32")
        self.loss_scale = LossScale(device) if self.precision == "float16" else None
        self.forward = None
        if recipe.get("compile", False):
            example = pixels(train.images[: self.batch])
            self.forward = compile_backbone(self.backbone, example, self._autocast())
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0

    def _autocast(self) -> AbstractContextManager[None]:
        return autocast(self.precision, self.device)

    def _order(self) -> Tensor:
        generator = stream(self.settings["seed"], "order", self.epoch)
        return torch.from_numpy(permutations(generator, 1, len(self.train))[0]).to(self.device)

    def run_epoch(self, stop: Stop) -> float | None:
        """Train to the end of the current epoch, from wherever in it the state stands.

        Returns
        -------
        float or None
            Mean loss of the epoch's batches, or None if `stop` was requested: the position is then mid-epoch.

        Raises
        ------
        DivergenceError
            If the mean loss is not finite.
        """
        rate = learning_rate(self.settings["recipe"], self.epoch, self.epochs)
        momentum = float(self.settings["recipe"]["momentum"])
        self.backbone.train()
        samples = len(self.train)
        losses: list[Tensor] = []
        for inputs, targets, weights in self._batches():
            if stop.requested:
                break
            losses.append(self.descend(inputs, targets, weights, rate, momentum))
        self._add_losses(losses)
        if self.step * self.batch < samples:
            return None
        mean = self.loss_sum / samples
        if not math.isfinite(mean):
            raise self._diverged(f"the training loss is {mean}", self.epoch + 1)
        if self.loss_scale is not None and self.loss_scale.scale < 1:
            raise self._diverged("gradients overflow float16 at any loss scale", self.epoch + 1)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        return mean

    def descend(
        self, inputs: Tensor | slice, targets: Tensor, weights: Tensor | None, rate: float, momentum: float
    ) -> Tensor:
        """Take one step on one batch, in the mode that the backbone is in; returns the batch's loss before it."""
        features = self._features(inputs, len(targets))
        lambda_h = self._batch_lambda_h(len(targets))
        loss = batch_loss(self.classifier(features), features, targets, lambda_h, weights, self.loss)
        if self.loss_scale is None:
            loss.backward()
            for group in self.groups:
                group.step(rate, momentum)
        else:
            self._scaled_step(loss, self.loss_scale, rate, momentum)
        return loss.detach()

    def _features(self, inputs: Tensor | slice, samples: int) -> Tensor:
        """Features of a batch in training, float32; the short last batch of an epoch is not worth a compilation."""
        forward = self.backbone if self.forward is None or samples < self.batch else self.forward.function
        with self._autocast():
            features: Tensor = forward(inputs)
        return features.float()

    def _batch_lambda_h(self, samples: int) -> float:
        """Penalty on each feature of a batch; a sum over the batch weighs those of a short one less, as Li do."""
        if self.settings["recipe"].get("feature_penalty", DEFAULT_FEATURE_PENALTY) == "batch_sum":
            return self.lambda_h * samples / self.batch
        return self.lambda_h

    def _scaled_step(self, loss: Tensor, loss_scale: LossScale, rate: float, momentum: float) -> None:
        """Step from a scaled loss, left out where its gradients overflow."""
        scale = loss_scale.scale.clone()
        (loss * scale).backward()
        gradients = [p.grad for group in self.groups for p in group.parameters if p.grad is not None]
        overflow = loss_scale.overflow(gradients)
        for group in self.groups:
            group.step(rate, momentum, scale=scale, overflow=overflow)

    def _batches(self) -> Iterator[tuple[Tensor | slice, Tensor, Tensor | None]]:
        """Input of the backbone, targets and weights of each batch that is left of the epoch."""
        images, targets, weights = self.train.images, self.train.targets, self.train.weights
        if self.batch == len(self.train):
            yield slice(None) if self.free else pixels(images), targets, weights
            return
        # Several batches are gathered at once, by index_select: images[index] takes four times as long on the CPU.
        for index in self._order()[self.step * self.batch :].split(BATCHES_AT_ONCE * self.batch):
            inputs = index if self.free else pixels(images.index_select(0, index))
            yield from zip(
                inputs.split(self.batch),
                targets.index_select(0, index).split(self.batch),
                repeat(None) if weights is None else weights.index_select(0, index).split(self.batch),
                strict=False,
            )

    def _add_losses(self, losses: list[Tensor]) -> None:
        """Count steps, and sum their losses in order and in float64, so that a stop in between changes no bit."""
        for loss in torch.stack(losses).tolist() if losses else []:  # the epoch's only wait for the device
            self.loss_sum += loss * min(self.batch, len(self.train) - self.step * self.batch)
            self.step += 1

    def _diverged(self, what: str, epoch: int) -> DivergenceError:
        advice = f"Lower the learning rate (it is {self.settings['recipe']['lr']})?"
        if self.precision == "float16":
            advice += " Or take bfloat16 or float32: beyond 65504 a value overflows float16."
        return DivergenceError(
            f"{Run(**self.settings['run']).name}: {what} in epoch {epoch} of {self.epochs}; training stopped, the "
            f"checkpoints before it are kept. {advice}"
        )

    @property
    def evaluation_batch(self) -> int:
        """Images that are evaluated at once; a function of their size alone, so that results repeat."""
        height, width = self.train.images.shape[1:3]
        return EVALUATION_BATCH if self.device.type == "cpu" else max(1, EVALUATION_PIXELS // (height * width))

    @torch.no_grad()
    def features(self, split: Split) -> Tensor:
        """Features of a whole split in evaluation mode, (N, d) float32, on the device; never compiled."""
        self.backbone.eval()
        if self.free:
            return self.backbone(slice(None))
        with self._autocast():
            parts = [self.backbone(pixels(part)).float() for part in split.images.split(self.evaluation_batch)]
        return torch.cat(parts)

    @torch.no_grad()
    def checkpoint(self, test: Split | None) -> dict[str, Tensor]:
        """Everything that an epoch of the store holds: what is large on the device, float64 scalars on the host.

        Raises
        ------
        DivergenceError
            If any of it is not finite: the last step of an epoch can diverge after its loss was still finite.
        """
        weight = self.classifier.weight
        bias = weight.new_zeros(len(weight)) if self.classifier.bias is None else self.classifier.bias
        objective = self.settings["objective"]
        values: dict[str, Any] = {"classifier_weight": weight, "classifier_bias": bias}
        for name, split in (("train", self.train), ("test", test)):
            if split is None:
                continue
            features = self.features(split)
            values[f"features_{name}"] = features
            error, score = error_and_score(features @ weight.T + bias, split.labels)
            values[f"error_{name}"], values[f"score_{name}"] = error, score
            if name == "train":
                terms = objective_terms(
                    features, weight, bias, split.targets,
                    lambda_w=objective["lambda_w"], lambda_h=self.lambda_h, lambda_b=objective["lambda_b"],
                    weights=split.weights, loss=self.loss,
                )  # fmt: skip
                values |= {f"objective_{term}": value for term, value in terms.items()}
                values["objective"] = sum(terms.values())
        tensors = {
            name: value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            for name, value in values.items()
        }
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise self._diverged(f"{name} is not finite", self.epoch)
        return tensors

    def _tensors(self) -> dict[str, Tensor]:
        parts: dict[str, nn.Module] = {"backbone": self.backbone, "classifier": self.classifier}
        tensors = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
        for position, group in enumerate(self.groups):
            tensors |= {f"momentum.{position}.{index}": buffer for index, buffer in enumerate(group.momentum)}
        if self.loss_scale is not None:
            tensors |= {f"loss_scale.{name}": tensor for name, tensor in self.loss_scale.tensors().items()}
        return tensors

    def skipped_steps(self) -> int:
        """Count the steps that float16 has left out so far."""
        return 0 if self.loss_scale is None else int(self.loss_scale.skipped_steps)

    def position(self) -> dict[str, Any]:
        """Where the run is; JSON keeps every bit of the loss."""
        return {"epoch": self.epoch, "step": self.step, "loss_sum": self.loss_sum}

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next step depends on, as they are on the device: they change with it."""
        return {name: tensor.detach() for name, tensor in self._tensors().items()}

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Give the state as arrays on the host; on a CPU they change with it."""
        return {name: tensor.cpu().numpy() for name, tensor in self.state().items()}

    @torch.no_grad()
    def restore(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a state, bit for bit."""
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(arrays[name]))
        self.epoch, self.step, self.loss_sum = header["epoch"], header["step"], header["loss_sum"]

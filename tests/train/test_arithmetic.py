"""Precision, loss scale, deterministic algorithms, compilation, memory: what they compute, and how they end."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncpipe.errors import DeviceMemoryError, DivergenceError, InputError
from ncpipe.stores.files import read_json
from ncpipe.stores.zarr import Store
from ncpipe.train import arithmetic as module
from ncpipe.train import compiled, trainer
from ncpipe.train.allocator import keep_freed_memory
from ncpipe.train.arithmetic import LossScale, arithmetic, check_precision
from ncpipe.train.loop import resolve_device
from ncpipe.train.networks import ConvNet
from ncpipe.train.optimiser import ParameterGroup
from ncpipe.train.splits import Split, load_split
from ncpipe.train.state import load_state
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

Train = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")
SIGTERM_EXIT = 143


def arrays_of(folder: Path) -> dict[tuple[int, str], bytes]:
    store = Store(folder / "features.zarr")
    return {(e, str(name)): a.values.tobytes() for e in store.epochs for name, a in store.epoch(e).data_vars.items()}


def stop_before_batch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Send this process SIGTERM as it computes the loss of a batch; once."""
    real, left = trainer.batch_loss, [number]

    def batch_loss(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(trainer, "batch_loss", batch_loss)


def assert_resumes(train: Train, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], stops: list[int]) -> Path:
    """Stopped in the middle of epochs, a run ends with the bytes of one that nothing stopped; returns the latter."""
    whole = train(settings, "whole")
    for batches in stops:
        with monkeypatch.context() as patch:
            stop_before_batch(patch, batches)
            with pytest.raises(SystemExit) as stopped:
                train(settings, "stopped")
            assert stopped.value.code == SIGTERM_EXIT
    folder = train(settings, "stopped")
    assert arrays_of(whole) == arrays_of(folder)
    for file in ("history.csv", "manifest.json", "state/state.npz"):
        assert (whole / file).read_bytes() == (folder / file).read_bytes(), file
    return whole


# --- precision ------------------------------------------------------------------------------------------------------


def rounded(values: np.ndarray) -> np.ndarray:
    """Values to the nearest of 8 significant bits, ties to even: bfloat16, by its own definition."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8)


def test_bfloat16_rounds_pixels_weights_and_features_and_nothing_else(
    data: Path, train: Train, make_settings: Make
) -> None:
    settings = make_settings(network__hidden=[], recipe__precision="bfloat16", epochs=2, checkpoints=[0, 2])
    split, _ = load_split(data, "train", settings, CPU)
    layer = Trainer(settings, split, CPU).backbone[1]
    weight, bias = (rounded(p.detach().numpy()) for p in (layer.weight, layer.bias))
    store = Store(train(settings) / "features.zarr")
    first, last = store.epoch(0), store.epoch(2)
    pixels = rounded(split.images.numpy().reshape(len(split), -1) / 255)
    expected = np.maximum(pixels @ weight.T + bias, 0)
    features = first["features_train"].values
    assert features.dtype == np.float32
    np.testing.assert_array_equal(rounded(features), features)
    np.testing.assert_allclose(features, expected, rtol=2**-7, atol=1e-3)
    assert not np.array_equal(rounded(last["classifier_weight"].values), last["classifier_weight"].values)
    # The stored terms are float64 on the stored features: no step of theirs is rounded.
    logits = features.astype(float) @ first["classifier_weight"].values.T.astype(float)
    logits += first["classifier_bias"].values
    targets = split.targets.numpy().astype(float)
    loss = (np.log(np.exp(logits).sum(1, keepdims=True)) - logits) * targets
    assert float(first["objective_loss"]) == pytest.approx(loss.sum(1).mean(), rel=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains_to_nearly_the_same(train: Train, make_settings: Make, precision: str) -> None:
    values = {}
    for name in ("float32", precision):
        entry = {} if name == "float32" else {"recipe__precision": name}
        folder = train(make_settings(epochs=20, checkpoints=[20], recipe__lr=0.05, **entry), name)
        values[name] = Store(folder / "features.zarr").epoch(20)
    assert not np.array_equal(values[precision]["classifier_weight"], values["float32"]["classifier_weight"])
    assert float(values[precision]["objective"]) == pytest.approx(float(values["float32"]["objective"]), rel=0.02)


def test_precision_is_part_of_what_a_run_is(train: Train, make_settings: Make) -> None:
    folder = train(make_settings(recipe__precision="bfloat16", epochs=1, checkpoints=[1]))
    assert read_json(folder / "manifest.json")["identity"]["settings"]["recipe"]["precision"] == "bfloat16"


def test_tf32_on_a_cpu_is_refused_before_anything_is_there(train: Train, make_settings: Make, tmp_path: Path) -> None:
    message = "precision: found 'tf32' on a CPU, which has none; allowed here: float32, bfloat16, float16"
    with pytest.raises(InputError, match=message):
        train(make_settings(recipe__precision="tf32"))
    assert not (tmp_path / "run").exists()


def test_precision_that_an_old_gpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "an old GPU")
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(InputError, match=rf"found '{precision}' on an old GPU, of compute capability 7\.5"):
            check_precision(precision, torch.device("cuda"))
    check_precision("float16", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    check_precision("tf32", torch.device("cuda"))


def switches() -> tuple[bool, ...]:
    return (
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("recipe", "device", "expected"),
    [
        ({}, "cpu", (False, False, False, False, False)),
        ({}, "cuda", (False, False, False, True, False)),
        ({"precision": "tf32"}, "cuda", (True, True, False, True, False)),
        ({"precision": "bfloat16"}, "cuda", (False, False, False, True, False)),
        ({"deterministic": True}, "cuda", (False, False, True, False, True)),
        ({"deterministic": True}, "cpu", (False, False, True, False, True)),
    ],
)
def test_switches_are_set_for_a_run_and_put_back(
    recipe: dict[str, Any], device: str, expected: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = switches()

    def run() -> None:
        with arithmetic(recipe, torch.device(device)):
            assert switches() == expected
            assert (device == "cuda" and expected[2]) == ("CUBLAS_WORKSPACE_CONFIG" in os.environ)
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert switches() == before
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_deterministic_algorithms_change_no_bit_on_a_cpu(train: Train, make_settings: Make) -> None:
    runs = [train(make_settings("cnn", epochs=2, checkpoints=[0, 2], **entry), name)
            for name, entry in (("plain", {}), ("deterministic", {"recipe__deterministic": True}))]  # fmt: skip
    assert arrays_of(runs[0]) == arrays_of(runs[1])


# --- the loss scale of float16 --------------------------------------------------------------------------------------


def test_loss_scale_halves_at_once_and_doubles_after_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossScale, "GROWTH_STEPS", 3)
    monkeypatch.setattr(LossScale, "LARGEST", 2.0**17)
    scale, fine = LossScale(CPU), torch.tensor([1.0, -2.0])
    seen = []
    for bad in (None, np.inf, None, None, None, np.nan, -np.inf, *[None] * 12):
        gradients = [fine, torch.tensor([0.5, 0.0 if bad is None else bad])]
        assert float(scale.overflow(gradients)) == (bad is not None)
        seen.append(float(scale.scale) / 2**16)
    assert seen == [1, 0.5, 0.5, 0.5, 1, 0.5, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 1, 1, 1, 2, 2, 2, 2]
    assert int(scale.skipped_steps) == 3


def test_scaling_a_loss_changes_no_bit_of_a_step(data: Path, make_settings: Make) -> None:
    """The scale is a power of 2, and float32 has exponents to spare."""
    settings = make_settings("cnn")
    split, _ = load_split(data, "train", settings, CPU)
    plain, scaled = (Trainer(settings, split, CPU) for _ in range(2))
    scaled.loss_scale = LossScale(CPU)
    with Stop() as stop:
        assert plain.run_epoch(stop) == scaled.run_epoch(stop)
    states = plain.state(), scaled.state()
    for name, values in states[0].items():
        np.testing.assert_array_equal(values, states[1][name], err_msg=name)


def test_step_with_an_overflow_is_left_out_whole() -> None:
    parameter = torch.ones(3, requires_grad=True)
    group = ParameterGroup([parameter], weight_decay=0.1)
    group.momentum[0] += 2
    parameter.grad = torch.tensor([1.0, torch.inf, 1.0])
    group.step(0.1, 0.9, scale=torch.tensor(4.0), overflow=torch.tensor(1.0))
    assert parameter.tolist() == [1, 1, 1]
    assert group.momentum[0].tolist() == [2, 2, 2]
    assert parameter.grad is None
    parameter.grad = torch.full((3,), 8.0)
    group.step(0.1, 0.9, scale=torch.tensor(4.0), overflow=torch.tensor(0.0))
    np.testing.assert_allclose(group.momentum[0], 0.9 * 2 + 8 / 4 + 0.1)


def test_overflowing_gradients_are_counted_in_the_log_and_in_the_state(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LossScale, "FIRST", 2.0**24)
    monkeypatch.setattr(LossScale, "GROWTH_STEPS", 7)
    settings = make_settings(recipe__precision="float16")
    whole = assert_resumes(train, monkeypatch, settings, [2, 3, 9])
    state = load_state(whole / "state/state.npz")
    assert state is not None
    left_out = int(state[1]["loss_scale.skipped_steps"])
    assert left_out > 0
    assert float(state[1]["loss_scale.scale"]) < 2**24
    (line, *_) = [m for m in caplog.messages if m.startswith("float16: ")]
    assert "step(s) overflowed by epoch 1; those steps were left out" in line


def test_scale_below_one_ends_the_run(train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossScale, "FIRST", 2.0)
    monkeypatch.setattr(LossScale, "GROWTH_STEPS", 10**6)
    monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda *_: torch.tensor(torch.inf))
    with pytest.raises(DivergenceError, match=r"gradients overflow float16 at any loss scale in epoch 1 .*bfloat16"):
        train(make_settings(recipe__precision="float16"))


def test_values_that_overflow_float16_are_an_error_not_infinity(
    train: Train, make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Large(ConvNet):
        def __init__(self, channels: int, width: int) -> None:
            super().__init__(channels, width)
            torch.nn.init.constant_(self[1].weight, 1e7)

    monkeypatch.setattr("ncpipe.train.networks.ConvNet", Large)
    settings = make_settings("cnn", recipe__precision="float16", network__width=2)
    with pytest.raises(DivergenceError, match=r"is not finite in epoch 0 .*beyond 65504 a value overflows float16"):
        train(settings)
    with pytest.raises(DivergenceError, match=r"loss is (nan|inf) in epoch 1 .*beyond 65504 a value overflows float16"):
        train({**settings, "checkpoints": [1, 6]})
    assert Store(tmp_path / "run/features.zarr").epochs == []


# --- exact resume ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_resume_under_bfloat16_is_exact(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Four batches an epoch, of which the fourth is short."""
    assert_resumes(train, monkeypatch, make_settings(network, recipe__precision="bfloat16"), [2, 4, 7])


# --- compilation ----------------------------------------------------------------------------------------------------


def test_without_a_compiler_training_goes_on_and_says_why(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler\nanywhere")

    plain = train(make_settings("cnn"), "plain")
    monkeypatch.setattr(torch, "compile", fails)
    folder = train(make_settings("cnn", recipe__compile=True))
    assert arrays_of(plain) == arrays_of(folder)
    assert "compile: training goes on uncompiled; no: RuntimeError: no C++ compiler anywhere" in caplog.messages
    assert read_json(folder / "manifest.json")["environment"]["compile"] == "no: RuntimeError"
    assert "compile" not in read_json(plain / "manifest.json")["environment"]


class Compiled:
    """Stands in for a compiled backbone: counts what it is given."""

    def __init__(self, backbone: torch.nn.Module, **options: Any) -> None:
        self.backbone, self.options, self.seen = backbone, options, []  # type: ignore[var-annotated]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append((len(inputs), self.backbone.training))
        return self.backbone(inputs)


def test_full_batches_in_training_are_compiled_and_the_trial_leaves_no_trace(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Compiled] = []
    plain = train(make_settings("cnn", epochs=2, checkpoints=[0, 2]), "plain")
    monkeypatch.setattr(torch, "compile", lambda *a, **k: made.append(Compiled(*a, **k)) or made[-1])
    folder = train(make_settings("cnn", epochs=2, checkpoints=[0, 2], recipe__compile=True))
    assert arrays_of(plain) == arrays_of(folder)
    assert read_json(folder / "manifest.json")["environment"]["compile"] == "inductor"
    (one,) = made
    assert one.seen == [(32, True)] * (1 + 2 * 3)  # the trial; the short fourth batch of both epochs stays uncompiled
    assert one.options == {"fullgraph": True, "dynamic": False, "mode": None}


def test_out_of_memory_in_the_trial_is_not_the_compilers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "compile", lambda *_, **__: full)
    with pytest.raises(torch.OutOfMemoryError):
        compiled.compile_backbone(ConvNet(1, 2), torch.zeros(4, 1, 8, 8), module.autocast("float32", CPU))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resume_of_a_compiled_run_is_exact(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    entry = {} if precision == "float32" else {"recipe__precision": precision}
    settings = make_settings("cnn", recipe__compile=True, **entry)
    whole = assert_resumes(train, monkeypatch, settings, [2, 6])
    assert read_json(whole / "manifest.json")["environment"]["compile"] == "inductor"


# --- memory ---------------------------------------------------------------------------------------------------------


def test_out_of_gpu_memory_says_what_to_lower_and_loses_nothing(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = make_settings("cnn")
    real, left = ConvNet.forward, [13]  # of them 2 for each checkpoint, 4 for each epoch

    def forward(self: ConvNet, inputs: torch.Tensor) -> torch.Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(ConvNet, "forward", forward)
        with pytest.raises(DeviceMemoryError) as caught:
            train(settings)
    assert str(caught.value) == (
        "tiny/balanced/cnn/seed-0: out of GPU memory with a batch of 32 samples; lower its recipe's batch, or its "
        "network's width, or its recipe's precision (bfloat16), or free the device of other work. What was "
        "checkpointed is kept: on a larger device the same command goes on from there. torch says: CUDA out of memory. "
        "Tried to allocate 2.00 GiB."
    )
    assert Store(tmp_path / "run/features.zarr").epochs == [0, 1]
    assert arrays_of(train(settings)) == arrays_of(train(settings, "whole"))


def test_evaluation_takes_images_by_their_size_on_cuda_and_1024_on_a_cpu(data: Path, make_settings: Make) -> None:
    settings = make_settings()
    split, _ = load_split(data, "train", settings, CPU)
    run = Trainer(settings, split, CPU)
    assert run.evaluation_batch == 1024
    run.device = torch.device("cuda")
    assert run.evaluation_batch == 4_194_304 // (16 * 16)


def test_memory_that_was_freed_is_not_zeroed_again() -> None:
    """8 MB are 2,048 pages; each would be a fault, every time."""
    if not keep_freed_memory():
        pytest.skip("the C library here is not glibc: it keeps what it likes")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            torch.ones(1 << 21)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 2048


# --- on a GPU -------------------------------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: the GPU path is untested")


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("network", ["cnn", "resnet18", "resnet50", "vit", "mlp"])
def test_float32_on_cuda_agrees_with_the_cpu(train: Train, make_settings: Make, network: str) -> None:
    settings = make_settings(network, epochs=2, checkpoints=[0, 2], recipe__lr=0.01)
    cpu, cuda = (Store(train(settings, d, device=d) / "features.zarr").epoch(2) for d in ("cpu", "cuda"))
    for name in cpu.data_vars:
        np.testing.assert_allclose(cuda[name], cpu[name], rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("network", ["cnn", "resnet18", "resnet50", "vgg16", "vit"])
def test_every_network_has_deterministic_algorithms_on_cuda(make_settings: Make, network: str) -> None:
    """Poolings and attention too: torch raises where an operation has none. Images of 32 pixels."""
    device, rng = torch.device("cuda"), np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.eye(4, dtype=np.uint8)[np.arange(20) % 4]
    settings = make_settings(network, epochs=1, recipe__batch=8, recipe__deterministic=True)

    def trained() -> dict[str, np.ndarray]:
        run = Trainer(settings, Split(images, labels, "normalised", device), device)
        with Stop() as stop:
            run.run_epoch(stop)
        return run.state_arrays()

    with arithmetic(settings["recipe"], device):
        one, two = trained(), trained()
    for name, values in one.items():
        assert values.tobytes() == two[name].tobytes(), name


@pytest.mark.cuda
@needs_cuda
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("compile_", [False, True])
def test_resume_on_cuda_is_exact_where_it_is_deterministic(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, precision: str, compile_: bool
) -> None:
    settings = make_settings("cnn", recipe__precision=precision, recipe__compile=compile_, recipe__deterministic=True)

    def on_cuda(settings: dict[str, Any], folder: str) -> Path:
        return train(settings, folder, device="cuda")

    whole = assert_resumes(on_cuda, monkeypatch, settings, [2, 6])
    assert read_json(whole / "manifest.json")["environment"]["device"] == resolve_device("cuda").type
    if compile_:
        assert read_json(whole / "manifest.json")["environment"]["compile"] == "inductor, CUDA graphs"


@pytest.mark.parametrize(("width", "enabled"), [(7, False), (8, True)])
def test_narrow_residual_networks_leave_onednn_and_it_comes_back(width, enabled):
    before = torch.backends.mkldnn.enabled
    with arithmetic({}, torch.device("cpu"), {"architecture": "resnet18", "width": width}):
        assert torch.backends.mkldnn.enabled == enabled
    assert torch.backends.mkldnn.enabled == before

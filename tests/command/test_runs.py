"""`ncpipe train` and `ncpipe show`, as they are called in a checkout."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ncpipe.command.main import main
from ncpipe.data.synthesise import synthesise
from ncpipe.experiment.plan import Run, setting_counts, train_settings
from ncpipe.experiment.reading import load_config
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.names import parse_label_counts
from ncpipe.labels.sampling import Sampling
from ncpipe.results.sampling_file import write_sampling
from ncpipe.stores.zarr import Store
from ncpipe.train.loop import train_run

REPOSITORY = Path(__file__).parents[2]
RUN = "mlab_digits/balanced/mlp/seed-0"
OVERLAY = {
    "results": "out",
    "device": "cpu",
    "datasets": {"mlab_digits": {"train_counts": [4, 1], "test_counts": [1, 1]}},
    "recipes": {"mlp": {"epochs": 3, "checkpoints": [0, 1, 3]}},
    "networks": {"mlp": {"hidden": [8], "features": 4}},
}
DATA = {
    "dataset": "mlab_digits", "base": "digits", "folder": None, "style": "mnist", "placement": "reference",
    "train_counts": [4, 1], "test_counts": [1, 1], "seed": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory like a checkout, with an overlay; log handlers that a command adds are removed."""
    shutil.copy2(REPOSITORY / "config.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "workflow/schemas", tmp_path / "workflow/schemas")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(OVERLAY))
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.root.handlers)
    yield tmp_path
    logging.root.handlers[:] = handlers


@pytest.fixture
def data(checkout: Path) -> None:
    synthesise(DATA, checkout / "out/data/mlab_digits", logging.getLogger("ncpipe"))


def ncpipe(*arguments: str) -> int:
    return main([*arguments])


@pytest.mark.usefixtures("data")
def test_a_run_outside_the_workflow_is_the_workflows(checkout: Path) -> None:
    assert ncpipe("train", RUN, "--configfile", "tiny.yaml") == 0
    config = load_config(Path("config.yaml"), Path("tiny.yaml"))
    train_run(
        train_settings(config, Run("mlab_digits", "balanced", "mlp", 0)), data=Path("out/data/mlab_digits"),
        folder=Path("other"), log=logging.getLogger("ncpipe"), device="cpu", threads=1,
    )  # fmt: skip
    assert (checkout / "out/train" / RUN / "manifest.json").read_bytes() == Path("other/manifest.json").read_bytes()


@pytest.mark.usefixtures("data")
def test_other_settings_are_refused_until_fresh_is_said(
    checkout: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    assert ncpipe("train", RUN, "--configfile", "tiny.yaml") == 0
    before = Store(f"out/train/{RUN}/features.zarr").digest()
    (checkout / "more.yaml").write_text("recipes: {mlp: {lr: 0.05}}\n")
    arguments = ["train", RUN, "--configfile", "tiny.yaml", "more.yaml"]
    capsys.readouterr()
    assert ncpipe(*arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        f"ncpipe train: out/train/{RUN}/state/state.npz: the resume state belongs to other settings"
    )
    assert "(settings.recipe.lr: was 0.1, now 0.05)" in error
    assert "start afresh with --fresh" in error
    assert Store(f"out/train/{RUN}/features.zarr").digest() == before
    assert ncpipe(*arguments, "--fresh") == 0
    assert Store(f"out/train/{RUN}/features.zarr").digest() != before
    assert "starting afresh" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["mlab_digits/balanced/mpl/seed-0"], f"found 'mlab_digits/balanced/mpl/seed-0'; did you mean '{RUN}'?"),
        ([RUN], "out/data/mlab_digits: no data set here; make it first, with `snakemake data`"),
        ([RUN, "--configfile", "absent.yaml"], "absent.yaml: no such configuration file"),
    ],
)
def test_what_cannot_be_run_says_so(capsys: pytest.CaptureFixture, arguments: list[str], expected: str) -> None:
    options = [] if "--configfile" in arguments else ["--configfile", "tiny.yaml"]
    assert ncpipe("train", *arguments, *options) == 2
    assert capsys.readouterr().err.startswith("ncpipe train: ")
    assert not Path("out/train").exists()
    assert ncpipe("train", *arguments, *options) == 2
    assert expected in capsys.readouterr().err


def test_a_faulty_configuration_is_listed(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    (checkout / "bad.yaml").write_text("recipes: {mlp: {lr: 0}}\nsettings: {step-0.1: {ratio: 2}}\n")
    assert ncpipe("train", RUN, "--configfile", "bad.yaml") == 2
    assert capsys.readouterr().err.splitlines() == [
        "ncpipe train: recipes.mlp.lr: found 0; allowed: a number > 0",
        "settings.step-0.1.ratio: found 2; allowed: a number > 0 and <= 1",
    ]


def test_outside_a_checkout(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert ncpipe("train", RUN) == 2
    expected = "config.yaml: missing; run this command in the checkout of ncpipe"
    assert capsys.readouterr().err == f"ncpipe train: {expected}\n"


@pytest.mark.usefixtures("data")
def test_a_run_with_sampling_weights_needs_them(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    run = "mlab_digits/step-0.1-max-kappa/mlp/seed-0"
    weights = Path("out/theory/mlab_digits/step-0.1-max-kappa/sampling/normalised.json")
    assert ncpipe("train", run, "--configfile", "tiny.yaml") == 2
    line = f"ncpipe train: {weights}: no sampling weights here; make them first, with `snakemake theory`\n"
    assert capsys.readouterr().err == line
    assert not (checkout / "out/train").exists()
    config = load_config(Path("config.yaml"), Path("tiny.yaml"))
    counts = setting_counts(config["datasets"]["mlab_digits"], config["settings"]["step-0.1-max-kappa"])
    natural = LabelDistribution.from_counts(parse_label_counts(counts), 10)
    write_sampling(weights, Sampling(natural, natural.weights, "max_kappa", "normalised", 2.0, {}, 1.0))
    assert ncpipe("train", run, "--configfile", "tiny.yaml") == 0
    assert ncpipe("show", run, "--results", "out") == 0
    assert re.search(r"^sampling +max_kappa, cap 2$", capsys.readouterr().out, flags=re.M)


# --- show -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("data")
def test_show_says_what_a_run_is(capsys: pytest.CaptureFixture) -> None:
    assert ncpipe("train", RUN, "--configfile", "tiny.yaml") == 0
    capsys.readouterr()
    assert ncpipe("show", RUN, "--results", "out") == 0
    by_name = capsys.readouterr().out
    assert ncpipe("show", f"out/train/{RUN}") == 0
    assert capsys.readouterr().out == by_name
    rows = {line[:16].strip(): line[16:] for line in by_name.splitlines()}
    assert rows["run"] == RUN
    assert rows["samples"] == "85"
    assert rows["progress"] == "epoch 3 of 3, finished"
    assert rows["checkpoints"] == "3 of 3: 0, 1, 3"
    assert rows["features kept"] == "float32"
    assert rows["network"] == "architecture mlp, hidden [8], features 4"
    last = Store(f"out/train/{RUN}/features.zarr").epoch(3)
    assert f"objective {float(last['objective']):.6g}" in rows["last checkpoint"]
    assert "error_test" in rows["last checkpoint"]
    assert ncpipe("show", RUN, "--results", "out", "--json") == 0
    description = json.loads(capsys.readouterr().out)
    assert description["finished"] is True
    assert description["last_checkpoint"]["objective"] == float(last["objective"])


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("checkpoints", [[0, 2, 3], [2, 3]], ids=["after the first checkpoint", "before it"])
def test_show_follows_a_run_that_is_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, checkpoints: list[int]
) -> None:
    from ncpipe.train import loop
    from ncpipe.train.trainer import Trainer

    config = load_config(Path("config.yaml"), Path("tiny.yaml"))
    config["recipes"]["mlp"]["checkpoints"] = checkpoints
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    real: Callable[..., float | None] = Trainer.run_epoch

    def shown(trainer: Trainer, stop: Any) -> float | None:
        if trainer.epoch == 1:
            assert ncpipe("show", "run") == 0
        return real(trainer, stop)

    monkeypatch.setattr(Trainer, "run_epoch", shown)
    train_run(
        train_settings(config, Run("mlab_digits", "balanced", "mlp", 0)), data=Path("out/data/mlab_digits"),
        folder=Path("run"), log=logging.getLogger("ncpipe"), device="cpu",
    )  # fmt: skip
    text = capsys.readouterr().out
    assert "epoch 1 of 3, not finished" in text
    assert ("1 of 3: 0" if 0 in checkpoints else "0 of 2: none yet") in text


def test_show_of_nothing(capsys: pytest.CaptureFixture) -> None:
    assert ncpipe("show", "no/such/run") == 2
    assert (
        capsys.readouterr().err == "ncpipe show: results/train/no/such/run: no run here (state/state.npz is missing)\n"
    )


@pytest.mark.usefixtures("data")
def test_show_of_a_damaged_run_names_the_damage(capsys: pytest.CaptureFixture) -> None:
    assert ncpipe("train", RUN, "--configfile", "tiny.yaml") == 0
    Path(f"out/train/{RUN}/features.zarr/objective/c/2").unlink()
    assert ncpipe("show", RUN, "--results", "out") == 2
    assert "array 'objective', epoch 3: missing or damaged" in capsys.readouterr().err

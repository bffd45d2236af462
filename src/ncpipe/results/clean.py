"""What a results folder holds that no finished run needs, and its removal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ncpipe.errors import InputError
from ncpipe.experiment.plan import Config, plan_runs
from ncpipe.results.layout import MANIFEST, SUPERSEDED
from ncpipe.results.tree import read_tree
from ncpipe.stores.files import DIGEST_SUFFIX, check_folder
from ncpipe.stores.locks import at_work

RUN_STAGES = ("train", "collapse")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may go, and why."""

    path: Path
    reason: str

    @property
    def size(self) -> int:
        """Bytes."""
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.lstat().st_size for file in files if not file.is_dir())


def find_leftovers(results: Path, config: Config | None = None, *, unfinished: bool = False) -> list[Leftover]:
    """List what no finished run needs; nothing of what a run that is at work now writes.

    Parameters
    ----------
    results : Path
        The results folder.
    config : mapping, optional
        A checked configuration: data sets, theory and runs that it does not select are leftovers too.
    unfinished : bool
        Whether runs without a manifest are: what they would go on from, or what ``--delete-all-output`` left.

    Raises
    ------
    InputError
        If it is no folder, no results folder, or not the one that `config` writes to.
    """
    check_folder(results)
    if not any((results / stage).is_dir() for stage in ("data", "theory", *RUN_STAGES)):
        raise InputError(f"{results}: holds none of data, theory, train and collapse; is it a results folder?")
    if config is not None and Path(config["results"]).resolve() != results.resolve():
        raise InputError(f"{results}: the configuration writes to {config['results']}; clean that, or give its file")
    found = [
        *([] if config is None else _not_selected(results, config)),
        *(_unfinished(results) if unfinished else ()),
        *_interrupted(results),
    ]
    whole: list[Leftover] = []
    for leftover in found:  # what lies in a folder that goes, goes with it
        if not any(leftover.path.is_relative_to(other.path) for other in whole):
            whole.append(leftover)
    return [leftover for leftover in whole if not _at_work(leftover.path, results)]


def remove(leftover: Leftover, results: Path) -> None:
    """Remove it, and the folders above it that are empty then."""
    if leftover.path.is_dir() and not leftover.path.is_symlink():
        shutil.rmtree(leftover.path)
    else:
        leftover.path.unlink()
    for folder in leftover.path.parents:
        if folder == results or folder.is_symlink() or any(folder.iterdir()):
            break
        folder.rmdir()


def _folders(results: Path, stage: str, depth: int) -> list[Path]:
    return sorted(path for path in (results / stage).glob("/".join("*" * depth)) if path.is_dir())


def _not_selected(results: Path, config: Config) -> Iterator[Leftover]:
    runs = plan_runs(config)
    selected = {
        "data": {run.dataset for run in runs},
        "theory": {f"{run.dataset}/{run.setting}" for run in runs},
        **{stage: {run.name for run in runs} for stage in RUN_STAGES},
    }
    for stage, depth in (("data", 1), ("theory", 2), *((stage, 4) for stage in RUN_STAGES)):
        for folder in _folders(results, stage, depth):
            if folder.relative_to(results / stage).as_posix() not in selected[stage]:
                yield Leftover(folder, "not selected by the configuration")


def _unfinished(results: Path) -> Iterator[Leftover]:
    for stage, depth in (("data", 1), *((stage, 4) for stage in RUN_STAGES)):
        for folder in _folders(results, stage, depth):
            if not (folder / MANIFEST).exists():
                yield Leftover(folder, "has no manifest: not finished, or its manifest was deleted")


def _interrupted(results: Path) -> Iterator[Leftover]:
    tree = read_tree(results)
    for path in tree.folders:
        if path.name == SUPERSEDED and path.with_name(MANIFEST).exists():
            yield Leftover(path, "set aside for a run that has finished")
    for path in tree.named(DIGEST_SUFFIX):
        if not path.with_name(path.name.removesuffix(DIGEST_SUFFIX)).exists():
            yield Leftover(path, "digest of a file that is gone")
    for path in sorted((*tree.files, *tree.folders)):
        if path.name.endswith((".partial", ".zarr.old")):
            yield Leftover(path, "half of a write that was interrupted")


def _at_work(path: Path, results: Path) -> bool:
    """Whether a writer holds the lock of the folder that `path` is or lies in."""
    for folder in (path, *path.parents):
        if folder == results:
            return False
        if at_work(folder):
            return True
    return False

"""Every file below a results folder, symbolic links followed: parts of it may lie on another disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ncpipe.results.layout import SUPERSEDED


@dataclass
class Tree:
    """What lies below a folder; of stores (``*.zarr``) the folder only, and nothing of what a run has set aside.

    Parameters
    ----------
    folder : Path
    files, folders : list of Path
        In order of their names, as they are reached from `folder`.
    broken : list of Path
        Symbolic links to nothing.
    notes : list of str
        One line for each link that leaves the folder (it is followed) or leads back into itself (it is not).
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def named(self, *endings: str) -> Iterator[Path]:
        """The files whose names end so."""
        return (path for path in self.files if path.name.endswith(endings))


def read_tree(folder: Path) -> Tree:
    """List what lies below a folder, each link followed unless it leads to a folder that holds it."""
    tree = Tree(folder)
    _read(folder, tree, folder.resolve(), (folder.resolve(),))
    return tree


def _read(folder: Path, tree: Tree, root: Path, above: tuple[Path, ...]) -> None:
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if not path.exists():  # a link to nothing or to itself; or a file that went meanwhile
            tree.broken += [path] if path.is_symlink() else []
            continue
        target = path.resolve() if path.is_symlink() else None
        if target is not None and target in above:
            tree.notes.append(f"{path}: leads back to {target}, which holds it; not followed")
            continue
        if target is not None and not target.is_relative_to(root):
            tree.notes.append(f"{path}: leads to {target}, outside of {tree.folder}; followed")
        if not path.is_dir():
            tree.files.append(path)
            continue
        tree.folders.append(path)
        if not name.endswith(".zarr") and name != SUPERSEDED:
            _read(path, tree, root, (*above, path.resolve()))

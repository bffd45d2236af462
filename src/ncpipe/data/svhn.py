"""SVHN's cropped digits ("format 2"): MATLAB files, read by scipy once their SHA-256 is that of the official ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ncpipe.data.official import DOWNLOADS
from ncpipe.errors import InputError

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
SHA256 = {Path(file.path).name: file.sha256 for file in DOWNLOADS["svhn"]}
ZERO = 10  # how the files write digit 0


def find_svhn(folder: Path, split: str) -> Path:
    """Path of the file of a split ("train" or "test") in `folder`.

    Raises
    ------
    InputError
        If it is missing.
    """
    path = folder / FILES[split]
    if not path.is_file():
        raise InputError(f"{path}: missing; allowed is a folder that holds {' and '.join(FILES.values())}")
    return path


def read_svhn(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the official file at `path`; nothing of any other file is parsed.

    Returns
    -------
    images : ndarray, shape (N, 32, 32, 3), uint8
        Rows, columns, channels.
    digits : ndarray, shape (N,), uint8
        1 to 9, and `ZERO` for 0.

    Raises
    ------
    InputError
        If the file cannot be read, or its SHA-256 is not the official one.
    """
    from scipy.io import loadmat

    try:
        with path.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            if digest != SHA256[path.name]:
                raise InputError(
                    f"{path}: found a file with SHA-256 {digest}; allowed is the official one with SHA-256 "
                    f"{SHA256[path.name]}, ncpipe fetch svhn downloads it"
                )
            source.seek(0)
            arrays = loadmat(source, variable_names=["X", "y"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allowed is a readable file") from error
    return np.ascontiguousarray(arrays["X"].transpose(3, 0, 1, 2)), arrays["y"][:, 0]

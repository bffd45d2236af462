"""What the theory stage wrote about a label distribution, as far as collapse compares networks with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncpipe.errors import InputError, StoreError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.stores.files import hash_json, read_json

ReferenceName = Literal["convex", "relu"]
REFERENCES: tuple[ReferenceName, ...] = ("convex", "relu")


@dataclass(frozen=True, eq=False)
class Reference:
    """An optimum that networks are measured against.

    Parameters
    ----------
    bound : float
        Certified lower bound on (7): (9), or (9a) for features >= 0; NaN where none was found.
    objective : float
        Best value reached.
    weight, bias : ndarray, shapes (K, d) and (K,)
    prototypes, probabilities : ndarray, shapes (S, d) and (S, K)
    """

    bound: float
    objective: float
    weight: np.ndarray
    bias: np.ndarray
    prototypes: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, eq=False)
class Theory:
    """A theory file, read.

    Parameters
    ----------
    distribution : LabelDistribution
        The labels as training sees them: with sampling weights, q_S N samples of each label set.
    natural : LabelDistribution
        The samples that carry each label set; the same where no weights are used.
    objective : Objective
    references : dict
        ``convex``, and ``relu`` where the theory stage certified one.
    synthesis : list of dict
        Records of `ncpipe.geometry.synthesis.fit_synthesis` at the convex optimum.
    digest : str
        Hash of the file's content.
    """

    distribution: LabelDistribution
    natural: LabelDistribution
    objective: Objective
    references: dict[ReferenceName, Reference]
    synthesis: list[dict[str, Any]]
    digest: str


def _reference(entry: dict[str, Any], bound: str) -> Reference:
    arrays = {
        name: np.asarray(entry[name], dtype=np.float64) for name in ("weight", "bias", "prototypes", "probabilities")
    }
    lower = float("nan") if entry[bound] is None else float(entry[bound])
    return Reference(lower, float(entry["objective"]), **arrays)


def read_theory(path: Path) -> Theory:
    """Read a theory file.

    Raises
    ------
    StoreError
        If it is missing, damaged, or lacks what collapse needs.
    """
    payload = read_json(path)
    try:
        entry = payload["distribution"]
        distribution = LabelDistribution.from_json(entry)
        natural = distribution
        if "natural_counts" in entry:
            natural = LabelDistribution.from_json({**entry, "counts": entry["natural_counts"]})
        references: dict[ReferenceName, Reference] = {"convex": _reference(payload["optimum"], "dual_bound")}
        if payload["relu"] is not None and "weight" in payload["relu"]:
            references["relu"] = _reference(payload["relu"], "lower_bound")
        objective = Objective.from_config(payload["objective"])
        return Theory(distribution, natural, objective, references, payload["synthesis"], hash_json(payload))
    except KeyError as error:
        raise StoreError(f"{path}: not a complete theory file, {error} is missing") from error
    except InputError as error:
        raise StoreError(f"{path}: not a complete theory file, {error}") from error


def read_theory_files(paths: Iterable[Path]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Read theory results by (data set, setting, objective), the last three parts of each path."""
    named = {(p.parts[-3], p.parts[-2], p.stem): p for p in map(Path, paths)}
    return {key: read_json(path) for key, path in named.items()}

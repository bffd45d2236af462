"""The theory file of a label distribution under an objective: written here, and read here, for every later stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncpipe.errors import InputError, StoreError
from ncpipe.labels.distribution import LabelDistribution, contrast_classes
from ncpipe.labels.spectrum import Spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import SpectralBound
from ncpipe.optimum.laws import Law
from ncpipe.optimum.optimum import Optimum
from ncpipe.results.layout import theory_names
from ncpipe.stores.files import hash_json, read_json, write_result

ReferenceName = Literal["convex", "relu"]
REFERENCES: tuple[ReferenceName, ...] = ("convex", "relu")
TheoryKey = tuple[str, str, str]  # data set, setting, objective


@dataclass(frozen=True, eq=False)
class Reference:
    """An optimum that networks are measured against.

    Parameters
    ----------
    bound : float
        Certified lower bound on (7): (9), or (9a) for features >= 0; NaN where none was found.
    objective : float
        Best value reached.
    certified : bool
        Whether the two are as close as the solver was asked for.
    weight, bias : ndarray, shapes (K, d) and (K,)
    prototypes, probabilities : ndarray, shapes (S, d) and (S, K)
    """

    bound: float
    objective: float
    certified: bool
    weight: np.ndarray
    bias: np.ndarray
    prototypes: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelSpectrum:
    """The spectrum of C_m, or of C_pool: theory.md (3), (4), (6).

    Parameters
    ----------
    multiplicity : int or None
        None for the pooled one.
    anisotropy : float or None
        δ; None where the covariance is 0 (m = K), so that all contrasts are alike.
    eigenvalues : ndarray
        Descending; all K - 1, or the two ends where K is large.
    weakest : ndarray, shape (K,)
        The contrast that belongs to the last of them.
    sides : pair of tuples of str
        The classes on its two sides.
    """

    multiplicity: int | None
    anisotropy: float | None
    eigenvalues: np.ndarray
    weakest: np.ndarray
    sides: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bound:
    """The bound (10): None, with a reason, where it is not available."""

    value: float | None
    ratio: float | None
    reason: str


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
        ``convex``, and ``relu`` where the theory stage has one.
    spectra : tuple of LabelSpectrum
        One for each multiplicity that occurs, ascending, then the pooled one.
    bound : Bound
    spectral_laws : tuple of Law
        (20); empty for a fixed classifier.
    tagwise : dict of int to float or None
        Residual of tag-wise averaging, with one factor, at the convex optimum, by multiplicity from two on.
    synthesis : list of dict
        Records of `ncpipe.geometry.synthesis.fit_synthesis` at the convex optimum.
    digest : str
        Hash of the file's content.
    """

    distribution: LabelDistribution
    natural: LabelDistribution
    objective: Objective
    references: dict[ReferenceName, Reference]
    spectra: tuple[LabelSpectrum, ...]
    bound: Bound
    spectral_laws: tuple[Law, ...]
    tagwise: dict[int, float | None]
    synthesis: list[dict[str, Any]]
    digest: str


@dataclass(frozen=True, eq=False)
class TheoryResults:
    """What the theory stage computed, as the wings return it.

    Parameters
    ----------
    distribution, natural : LabelDistribution
        See `Theory`; `natural` is None without sampling weights.
    objective : Objective
    spectra : mapping of int to (Spectrum, float)
        By multiplicity, with κ of the covariance Σ_m.
    pooled : Spectrum
    optimum, relu : Optimum
        Over all features, and over features h >= 0.
    bound : SpectralBound
    thresholds, laws : mapping
        As `ncpipe.optimum.thresholds.thresholds` and `ncpipe.optimum.laws.laws` return them.
    synthesis, tagwise : sequence of mapping
    """

    distribution: LabelDistribution
    natural: LabelDistribution | None
    objective: Objective
    spectra: Mapping[int, tuple[Spectrum, float]]
    pooled: Spectrum
    optimum: Optimum
    relu: Optimum
    bound: SpectralBound
    thresholds: Mapping[str, Any]
    laws: Mapping[str, Any]
    synthesis: Sequence[Mapping[str, Any]]
    tagwise: Sequence[Mapping[str, Any]]


def theory_content(results: TheoryResults) -> dict[str, Any]:
    """What the theory file says of the results, as plain builtins; numbers that are not finite are None."""
    distribution, natural = results.distribution, results.natural
    names, value = distribution.class_names, results.bound.value
    return _plain(
        {
            "distribution": distribution.to_json()
            | {"samples": distribution.samples}
            | ({} if natural is None else {"natural_counts": natural.counts}),
            "objective": {**results.objective.as_entry(), "lam": results.objective.lam},
            "spectrum": {
                "multiplicities": [
                    {**_part(distribution, m), **_spectrum(spectrum, names), "kappa_covariance": covariance}
                    for m, (spectrum, covariance) in results.spectra.items()
                ],
                "pooled": _spectrum(results.pooled, names),
            },
            "optimum": results.optimum.to_json(),
            "relu": results.relu.to_json(),
            "bound": asdict(results.bound)
            | {"ratio": None if value is None else _ratio(value, results.optimum.objective)},
            "thresholds": results.thresholds,
            "laws": results.laws,
            "synthesis": results.synthesis,
            "tagwise": results.tagwise,
        }
    )


def write_theory_file(path: Path, results: TheoryResults) -> None:
    """Write a theory file and its digest; equal results give equal bytes."""
    write_result(path, theory_content(results))


def read_theory(path: Path) -> Theory:
    """Read a theory file.

    Raises
    ------
    StoreError
        If it is missing, damaged, or lacks what later stages need.
    """
    content = read_json(path)
    try:
        return _theory(content)
    except KeyError as error:
        raise StoreError(f"{path}: not a complete theory file, {error} is missing") from error
    except InputError as error:
        raise StoreError(f"{path}: not a complete theory file, {error}") from error


def read_theories(paths: Iterable[Path]) -> dict[TheoryKey, Theory]:
    """Read theory files by the data set, setting and objective that their paths name."""
    return {theory_names(path): read_theory(path) for path in map(Path, paths)}


def _theory(content: Mapping[str, Any]) -> Theory:
    entry = content["distribution"]
    distribution = natural = LabelDistribution.from_json(entry)
    if "natural_counts" in entry:
        natural = LabelDistribution.from_json({**entry, "counts": entry["natural_counts"]})
    references: dict[ReferenceName, Reference] = {"convex": _reference(content["optimum"], "dual_bound")}
    if content["relu"] is not None and "weight" in content["relu"]:
        references["relu"] = _reference(content["relu"], "lower_bound")
    spectrum = content["spectrum"]
    return Theory(
        distribution=distribution,
        natural=natural,
        objective=Objective.from_config(content["objective"]),
        references=references,
        spectra=tuple(_label_spectrum(part) for part in (*spectrum["multiplicities"], spectrum["pooled"])),
        bound=Bound(content["bound"]["value"], content["bound"]["ratio"], content["bound"].get("reason", "")),
        spectral_laws=tuple(Law(law["multiplicity"], law["left"], law["right"]) for law in content["laws"]["spectral"]),
        tagwise={part["multiplicity"]: part["residual"] for part in content["tagwise"]},
        synthesis=content["synthesis"],
        digest=hash_json(content),
    )


def _reference(entry: Mapping[str, Any], bound: str) -> Reference:
    return Reference(
        bound=float("nan") if entry[bound] is None else float(entry[bound]),
        objective=float(entry["objective"]),
        certified=entry["certified"],
        weight=np.asarray(entry["weight"], dtype=np.float64),
        bias=np.asarray(entry["bias"], dtype=np.float64),
        prototypes=np.asarray(entry["prototypes"], dtype=np.float64),
        probabilities=np.asarray(entry["probabilities"], dtype=np.float64),
    )


def _label_spectrum(entry: Mapping[str, Any]) -> LabelSpectrum:
    return LabelSpectrum(
        multiplicity=entry.get("m"),
        anisotropy=entry["anisotropy"],
        eigenvalues=np.asarray(entry["eigenvalues"], dtype=np.float64),
        weakest=np.asarray(entry["weakest"]["contrast"], dtype=np.float64),
        sides=tuple(map(tuple, entry["weakest"]["classes"])),
    )


def _part(distribution: LabelDistribution, multiplicity: int) -> dict[str, Any]:
    samples = float(distribution.counts[distribution.multiplicity == multiplicity].sum())
    return {"m": multiplicity, "samples": samples, "share": samples / distribution.samples}


def _spectrum(spectrum: Spectrum, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "kappa": spectrum.kappa,
        "kappa_max": spectrum.kappa_max,
        "anisotropy": spectrum.anisotropy,
        "eigenvalues": spectrum.eigenvalues,
        "weakest": {"contrast": spectrum.weakest, "classes": contrast_classes(spectrum.weakest, class_names)},
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _plain(value: Any) -> Any:
    """Builtins that JSON holds, all the way down: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value

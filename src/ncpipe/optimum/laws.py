"""Spectral laws of the terminal state, from label statistics and λ alone: theory.md (20)-(24).

All follow from ‖R‖₂ <= λ, R = (s p − t) D^{1/2}, which holds at the optimum. At a point within ε of a lower bound that
(9) proves, ‖R‖₂ <= λ + √(2 L s_max ε): the functions take that radius. Features h >= 0 replace λ by √2 λ and the bound
by (9a). (20), (22) and (23) hold for every loss and for class weights, (21) for unweighted pick-all-labels only, and
none for a fixed classifier (docs/theory/losses.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution, contrast_basis
from ncpipe.labels.spectrum import isotropic, multiplicity_spectrum, pooled_spectrum
from ncpipe.objective import terms
from ncpipe.objective.losses import LOSSES
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import prediction_sigma, residual_matrix
from ncpipe.optimum.optimum import Optimum
from ncpipe.optimum.thresholds import pair_kappa


@dataclass(frozen=True)
class Law:
    """One inequality left >= right.

    Parameters
    ----------
    multiplicity : int or None
        None for the pooled distribution.
    left, right : float
    tightness : float or None
        right / left; None where the right side is not positive and the law says nothing.
    """

    multiplicity: int | None
    left: float
    right: float

    @property
    def tightness(self) -> float | None:
        """Right / left, in (0, 1]; None where the right side is not positive."""
        return self.right / self.left if self.right > 0 and self.left > 0 else None


def spectral_laws(
    distribution: LabelDistribution, objective: Objective, *, probabilities: np.ndarray, radius: float
) -> list[Law]:
    """(20): σ_{K−1}(F) >= √κ_pool − λ, and σ_{K−1}(F_m/√w_m) >= a_m √κ_m − λ/√w_m for every multiplicity.

    With class weights √κ_pool and a_m √κ_m are those of the weighted targets.

    Parameters
    ----------
    probabilities : ndarray, shape (S, K)
    radius : float
        Bound on ‖R‖₂, see `ncpipe.objective.terms.radius`.
    """
    left = prediction_sigma(distribution, objective, probabilities=probabilities)[-1]
    laws = [Law(None, float(left), float(_target_sigma(distribution, objective)[-1] - radius))]
    for m in distribution.multiplicities:
        share = float(distribution.weights[distribution.multiplicity == m].sum())
        if objective.class_weights is None:
            scale = 1 / m if objective.target == "normalised" else 1.0
            sigma = scale * np.sqrt(max(multiplicity_spectrum(distribution, m).kappa, 0.0))
        else:
            sigma = prediction_sigma(
                distribution, objective, probabilities=_shares(distribution, objective), multiplicity=m
            )[-1]
        right = sigma - radius / np.sqrt(share)
        left = prediction_sigma(distribution, objective, probabilities=probabilities, multiplicity=m)[-1]
        laws.append(Law(m, float(left), float(right)))
    return laws


def _shares(distribution: LabelDistribution, objective: Objective) -> np.ndarray:
    """t_S / s_S, shape (S, K): in place of predictions they make F the contrasts of the targets."""
    return objective.targets(distribution) / objective.amplitude(distribution)[:, None]


def _target_sigma(distribution: LabelDistribution, objective: Objective) -> np.ndarray:
    """√λ_i(C_pool) of the objective's targets, descending; of many classes the two ends only."""
    if objective.class_weights is not None:
        return prediction_sigma(distribution, objective, probabilities=_shares(distribution, objective))
    return np.sqrt(np.maximum(pooled_spectrum(distribution, objective.target).eigenvalues, 0.0))


def deviation_law(
    distribution: LabelDistribution, objective: Objective, *, probabilities: np.ndarray, radius: float
) -> Law:
    """(20): the bound on ‖R‖₂ is at least max_i |σ_i(F) − √λ_i(C_pool)|, over the eigenvalues that are known."""
    known = _target_sigma(distribution, objective)
    sigma = prediction_sigma(distribution, objective, probabilities=probabilities)
    if len(known) < len(sigma):  # of many classes the spectrum has the two ends only
        sigma = sigma[[0, -1]]
    return Law(None, radius, float(np.abs(sigma - known).max()))


def margin_laws(
    distribution: LabelDistribution, objective: Objective, *, logits: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """(21): the smallest margin z_a − z_b, a in S, b not in S, and ½ ln(w_S t_S²/λ² − 1), both of shape (S,).

    The right side is −inf where the logarithm is not defined, and for other objectives than unweighted pick-all-labels;
    the left side is inf for the set of all classes.
    """
    labels = distribution.multi_hot() > 0
    left = np.where(labels, logits, np.inf).min(axis=1) - np.where(labels, -np.inf, logits).max(axis=1)
    if objective.variant:
        return left, np.full_like(left, -np.inf)
    scale = distribution.tau(objective.target) / distribution.multiplicity  # t_S
    inside = distribution.weights * scale**2 / radius**2 - 1
    return left, 0.5 * np.log(inside, out=np.full_like(inside, -np.inf), where=inside > 0)


def pair_laws(
    distribution: LabelDistribution, objective: Objective, *, logits: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """(22): rms_S(s(z_a − z_b))/√2 and (√κ_ab − λ)/L of every pair of classes, both of shape (K, K); pal: L = ½."""
    scaled = (np.sqrt(distribution.weights) * objective.amplitude(distribution))[:, None] * logits
    own = (scaled**2).sum(axis=0)
    squared = np.maximum(own[:, None] + own[None, :] - 2 * scaled.T @ scaled, 0.0)
    return np.sqrt(squared / 2), (np.sqrt(pair_kappa(distribution, objective)) - radius) / LOSSES[
        objective.loss
    ].curvature


def residual_sigma(distribution: LabelDistribution, objective: Objective, *, probabilities: np.ndarray) -> np.ndarray:
    """σ(R)/λ, descending: theory.md (23). On 1^⊥, all K − 1 of them, for pick-all-labels; K for the other losses.

    At a critical point those with directions in W are 1; a value above 1 shows a direction that is missing, so that
    the point is stationary but not optimal.
    """
    rows = residual_matrix(distribution, objective, probabilities=probabilities)
    rows = rows @ contrast_basis(distribution.classes) if objective.facts.contrasts_only else rows
    sigma = np.linalg.svd(rows, compute_uv=False)
    return np.pad(sigma, (0, max(0, rows.shape[1] - len(sigma)))) / objective.lam


@one_thread
def laws(distribution: LabelDistribution, objective: Objective, *, optimum: Optimum) -> dict[str, Any]:
    """All laws at the certified optimum, for the theory file; ‖R‖₂ is bounded with the optimum's own gap.

    Returns
    -------
    dict
        ``radius``; ``spectral`` (20): pooled (multiplicity None) and per multiplicity; ``deviation`` (20);
        ``margins`` (21) per multiplicity and ``pairs`` (22): the tightest instance, how many say something, and their
        median tightness; ``residual_sigma`` (23); ``isotropic`` (24), whether the labels are. What does not hold for
        the objective is None or empty, and ``undefined`` says why.
    """
    if objective.classifier == "etf":
        reason = "the classifier is fixed: residuals need not obey λ"
        none = dict.fromkeys(("radius", "deviation", "pairs", "residual_sigma"))
        undefined = dict.fromkeys((*none, "spectral", "margins"), reason)
        empty: dict[str, Any] = {"spectral": [], "margins": []}
        return {**none, **empty, "isotropic": isotropic(distribution), "undefined": undefined}
    radius = terms.radius(distribution, objective, gap=optimum.objective - optimum.lower_bound)
    spectral = spectral_laws(distribution, objective, probabilities=optimum.probabilities, radius=radius)
    left, right = margin_laws(distribution, objective, logits=optimum.logits, radius=radius)
    margins = []
    for m in () if objective.variant else distribution.multiplicities:
        rows = np.flatnonzero(distribution.multiplicity == m)
        names = [[distribution.class_names[k] for k in distribution.label_sets[s]] for s in rows]
        margins.append({"multiplicity": m, **_tightest(left[rows], right[rows], names)})
    first, second = np.triu_indices(distribution.classes, 1)
    left, right = (
        side[first, second] for side in pair_laws(distribution, objective, logits=optimum.logits, radius=radius)
    )
    names = [[distribution.class_names[k] for k in pair] for pair in zip(first, second, strict=True)]
    return {
        "radius": radius,
        "spectral": [_entry(law) for law in spectral],
        "deviation": _entry(deviation_law(distribution, objective, probabilities=optimum.probabilities, radius=radius)),
        "margins": margins,
        "pairs": _tightest(left, right, names),
        "residual_sigma": residual_sigma(distribution, objective, probabilities=optimum.probabilities),
        "isotropic": isotropic(distribution),
        **({"undefined": {"margins": f"(21) is not stated for {objective.variant}"}} if objective.variant else {}),
    }


def _entry(law: Law) -> dict[str, Any]:
    return asdict(law) | {"tightness": law.tightness}


def _tightest(left: np.ndarray, right: np.ndarray, names: Iterable[list[str]]) -> dict[str, Any]:
    """The instance with the largest right / left among those with a positive right side, and a summary of these."""
    applicable = right > 0
    summary: dict[str, Any] = {"instances": len(left), "applicable": int(applicable.sum())}
    if not applicable.any():
        return summary | {"classes": None, "left": None, "right": None, "tightness": None, "median_tightness": None}
    ratio = np.divide(right, left, out=np.full_like(right, -np.inf), where=applicable)
    best = int(ratio.argmax())
    return summary | {
        "classes": list(names)[best],
        "left": float(left[best]),
        "right": float(right[best]),
        "tightness": float(ratio[best]),
        "median_tightness": float(np.median(ratio[applicable])),
    }

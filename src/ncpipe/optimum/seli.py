"""The optimum for a vanishing penalty, λ → 0, and when it is the labels themselves: theory.md (27)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ncpipe.errors import check_choice
from ncpipe.labels.distribution import LabelDistribution, contrast_basis

_SINGULAR = 1e-12  # share of the largest eigenvalue of C below which it is singular


@dataclass(frozen=True, eq=False)
class LabelLimit:
    """Whether logits become proportional to the labels as λ → 0, and the geometry that they then have.

    Parameters
    ----------
    holds : bool
        Whether Z / ln(1/λ) tends to P Y (pal) or to 2Y − 1 up to scale (bce).
    margin : float
        Smallest |entry| of the condition with the sign that it must have, negative where the condition fails;
        NaN where C is singular, and then nothing is claimed.
    gram_classifier, gram_prototypes : ndarray, shapes (K, K) and (S, S)
        W Wᵀ and Hᵀ H in the limit up to scale: C^{1/2}, and Yᵀ C^{-1/2} Y on contrasts; None where it does not hold.
    """

    holds: bool
    margin: float
    gram_classifier: np.ndarray | None = None
    gram_prototypes: np.ndarray | None = None


def label_limit(distribution: LabelDistribution, loss: Literal["pal", "bce"] = "pal") -> LabelLimit:
    """Decide whether the optimum's logits tend to the labels for λ → 0, theory.md (27): multi-label SELI.

    For pick-all-labels (either target, no bias), C = P E[yyᵀ] P: it holds where (C^{-1/2} P y_S)_c < 0 for every label
    set S and every class c outside it. For binary cross-entropy, C = E[(2y−1)(2y−1)ᵀ] and C^{-1/2}(2y_S − 1) must have
    the signs of 2y_S − 1.

    Raises
    ------
    InputError
        For other losses.

    Examples
    --------
    >>> from ncpipe.labels.distribution import LabelDistribution
    >>> labels = LabelDistribution.from_counts({(0,): 9, (1,): 5, (2,): 1, (0, 1): 2, (0, 2): 2, (1, 2): 2}, 3)
    >>> label_limit(labels).holds
    True
    """
    check_choice("loss", loss, ("pal", "bce"))
    labels, weights = distribution.multi_hot(), distribution.weights
    if loss == "pal":
        basis = contrast_basis(distribution.classes)  # (K, K−1)
        rows = labels @ basis  # (S, K−1)
    else:
        basis, rows = np.eye(distribution.classes), 2 * labels - 1
    eigenvalues, vectors = np.linalg.eigh(rows.T @ (weights[:, None] * rows))
    if eigenvalues[0] <= _SINGULAR * eigenvalues[-1]:
        return LabelLimit(holds=False, margin=float("nan"))
    inverse_root = vectors @ (eigenvalues**-0.5 * vectors).T
    condition = rows @ inverse_root @ basis.T  # (S, K)
    signed = np.where(labels > 0, np.inf, -condition) if loss == "pal" else condition * rows
    margin = float(signed.min())
    if not margin > 0:
        return LabelLimit(holds=False, margin=margin)
    root = basis @ (vectors @ (eigenvalues**0.5 * vectors).T) @ basis.T
    return LabelLimit(True, margin, root, rows @ inverse_root @ rows.T)


def limit_contrast(distribution: LabelDistribution) -> float:
    """λ_{K−1}(P E[yyᵀ] P): its square root is the limit of σ_{K−1}(Z D^{1/2}) / ln(1/λ), theory.md (27)."""
    rows = distribution.multi_hot() @ contrast_basis(distribution.classes)
    return float(np.linalg.eigvalsh(rows.T @ (distribution.weights[:, None] * rows))[0])

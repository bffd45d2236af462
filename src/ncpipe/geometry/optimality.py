"""How far a network is from the certified optimum of the terminal objective (7), and in which of its parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpipe.geometry.metrics import UndefinedMetric
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.refit import Refit
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import collapsed_terms, residual_matrix


def total_variation(
    probabilities: np.ndarray, reference: np.ndarray, label_set: np.ndarray, factors: np.ndarray | None = None
) -> float:
    """Root mean square, over samples, of the total variation between predictions and the optimum's.

    A gap ε bounds it by sqrt(ε / 2) for normalised targets (theory.md §2, "what a gap means"). Defined for
    pick-all-labels, whose predictions are one distribution over the classes.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
    reference : ndarray, shape (S, K)
        p*_S.
    label_set : ndarray of int, shape (N,)
    factors : ndarray, shape (N,), optional
        Sampling weights ω_S of the samples, of mean 1; the gap bounds the mean that they weight.
    """
    distances = 0.5 * np.abs(probabilities - reference[label_set]).sum(axis=1)  # (N,)
    return float(np.sqrt(np.mean(distances**2 if factors is None else factors * distances**2)))


@dataclass(frozen=True, eq=False)
class ResidualSpectrum:
    """σ(R)/λ of (23): all 1 where W ≠ 0 at a stationary point; above 1 names a direction that a better W would use.

    Parameters
    ----------
    ratios : ndarray, shape (K,)
        Descending; the last is 0 for pick-all-labels, whose residuals sum to 0 over classes; NaN for a fixed
        classifier.
    directions : ndarray, shape (K, K)
        Unit rows in class space, one for each ratio.
    """

    ratios: np.ndarray
    directions: np.ndarray


def residual_spectrum(
    probabilities: np.ndarray, distribution: LabelDistribution, objective: Objective
) -> ResidualSpectrum:
    """Spectrum of the residuals, theory.md (23), averaged within each label set.

    Parameters
    ----------
    probabilities : ndarray, shape (S, K)
        Predictions averaged over the samples of each label set.
    """
    residuals = residual_matrix(distribution, objective, probabilities=probabilities)  # (S, K)
    classes = distribution.classes
    # Through QR, so that thousands of label sets cost one K × K decomposition and fewer than K still give K ratios.
    padded = np.vstack([residuals, np.zeros((max(0, classes - len(residuals)), classes))])
    singular, directions = np.linalg.svd(np.linalg.qr(padded, mode="r"))[1:]
    signs = np.sign(directions[np.arange(classes), np.abs(directions).argmax(axis=1)])
    return ResidualSpectrum(singular / objective.lam, directions * signs[:, None])


def weakest_margin(logits: np.ndarray, multi_hot: np.ndarray) -> float:
    """Smallest z_a − z_b over label sets S, a in S and b not in S: the left side of (21), at the prototypes.

    Parameters
    ----------
    logits, multi_hot : ndarray, shape (S, K)
        Logits of the prototypes, which are the mean logits of their samples.

    Raises
    ------
    UndefinedMetric
        If a label set holds every class.
    """
    present = multi_hot.astype(bool)
    if present.all(axis=1).any():
        raise UndefinedMetric("no class lies outside the label set")
    lowest = np.where(present, logits, np.inf).min(axis=1)
    highest = np.where(present, -np.inf, logits).max(axis=1)
    return float((lowest - highest).min())


@dataclass(frozen=True)
class GapSplit:
    """Where a gap comes from; the three parts are >= 0 and sum to it.

    Parameters
    ----------
    classifier : float
        What a better W and b (b alone, where W is fixed) would gain on the features as they are.
    scatter : float
        What collapsing each label set onto its prototype would gain then.
    prototypes : float
        What is left: prototypes, and the classifier with them, away from the optimum.
    slack : float
        The classifier part may be larger, and the others smaller, by at most this (the solver's certified
        inexactness); NaN with a free bias, where strong convexity proves nothing.
    """

    classifier: float
    scatter: float
    prototypes: float
    slack: float

    @property
    def total(self) -> float:
        """The gap."""
        return self.classifier + self.scatter + self.prototypes


def split_gap(
    refit: Refit, *, prototypes: np.ndarray, distribution: LabelDistribution, objective: Objective, bound: float
) -> GapSplit:
    """Split a network's gap, (7) minus `bound`, into classifier, within-label-set scatter and prototypes.

    Parameters
    ----------
    refit : Refit
        The best classifier on the network's features.
    prototypes : ndarray, shape (S, d)
        Mean feature of each label set.
    distribution : LabelDistribution
        As training sees it: with sampling weights, q_S N samples of each label set.
    objective : Objective
    bound : float
        A lower bound on (7) over the features considered: (9), or (9a) for features >= 0.
    """
    flat = collapsed_terms(distribution, objective, weight=refit.weight, bias=refit.bias, prototypes=prototypes).total
    return GapSplit(refit.gain, refit.objective - flat, flat - bound, refit.slack)

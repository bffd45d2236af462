"""Label distributions built to order: exact marginals, one property moved at a time (claims 2 and 4).

Everything that is called *pairs* is a distribution of samples over pairs of classes, as a symmetric matrix (K, K) of
samples with zero diagonal. All constructions here are regular: every class is in equally many pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from ncpipe.labels.distribution import LabelDistribution, LabelSet, Target
from ncpipe.labels.spectrum import multiplicity_spectrum, pooled_spectrum
from ncpipe.streams import stream

Family = Literal["F1", "F2", "F2b"]

_SCALING = 10_000  # iterations of the symmetric scaling
_BALANCED = 1e-14  # relative spread of the class frequencies at which it ends
_KAPPA = 1e-12


def singles_and_pairs(alone: Sequence[float] | np.ndarray, pairs: np.ndarray) -> LabelDistribution:
    """Distribution with `alone` (K,) samples of single classes and `pairs` (K, K) samples of pairs.

    Raises
    ------
    ValueError
        If `pairs` is not a symmetric, nonnegative matrix with zero diagonal, one row for each class.
    """
    classes = len(alone)
    if pairs.shape != (classes, classes) or (pairs != pairs.T).any() or np.diag(pairs).any() or pairs.min() < 0:
        raise ValueError(f"pairs: need a symmetric {classes} x {classes} matrix, >= 0, with zero diagonal")
    counts: dict[LabelSet, float] = {(k,): float(n) for k, n in enumerate(alone)}
    counts |= {(a, b): float(pairs[a, b]) for a, b in itertools.combinations(range(classes), 2)}
    return LabelDistribution.from_counts(counts, classes)


def complete_pairs(classes: int, total: float) -> np.ndarray:
    """All pairs alike: isotropic, δ_2 = 0."""
    pairs = np.full((classes, classes), 2 * total / (classes * (classes - 1)))
    np.fill_diagonal(pairs, 0.0)
    return pairs


def matching_pairs(classes: int, total: float) -> np.ndarray:
    """The perfect matching {0, 1}, {2, 3}, …: κ_2 = 0, δ_2 = 1.

    Raises
    ------
    ValueError
        If the number of classes is odd.
    """
    if classes % 2:
        raise ValueError(f"classes: found {classes}; a perfect matching needs an even number")
    first = np.arange(0, classes, 2)
    return _edges(classes, first, first + 1) * (2 * total / classes)


def bipartite_pairs(classes: int, total: float) -> np.ndarray:
    """All pairs of one class below K/2 and one above: κ_2 = 0 along the contrast of the two halves.

    Raises
    ------
    ValueError
        If the number of classes is odd.
    """
    if classes % 2:
        raise ValueError(f"classes: found {classes}; equal halves need an even number")
    side = np.arange(classes) < classes // 2
    return (side[:, None] != side[None, :]) * (4 * total / classes**2)


def random_regular_pairs(classes: int, total: float, rng: np.random.Generator) -> np.ndarray:
    """A random regular weighted graph: Dirichlet weights on two to K random perfect matchings (cycles for odd K)."""
    parts = rng.dirichlet(np.ones(rng.integers(2, classes + 1)))
    pairs = np.zeros((classes, classes))
    for part in parts:
        order = rng.permutation(classes)
        if classes % 2:
            pairs += _edges(classes, order, np.roll(order, 1)) * (part * total / classes)
        else:
            pairs += _edges(classes, order[::2], order[1::2]) * (2 * part * total / classes)
    return pairs


def correlated_pairs(classes: int, total: float, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Pairs from independent (strength 0: all alike) to strongly correlated, with equal class frequencies throughout.

    Pair weights are exp(strength · J_ab), J standard normal, scaled to equal frequencies (symmetric Sinkhorn). The
    same state of `rng` gives the same J, so that strengths can be compared.
    """
    coupling = np.triu(rng.normal(size=(classes, classes)), 1)
    weights = np.exp(strength * (coupling + coupling.T))
    np.fill_diagonal(weights, 0.0)
    scale = np.ones(classes)
    for _ in range(_SCALING):
        degree = scale * (weights @ scale)
        if np.ptp(degree) <= _BALANCED * degree.max():
            break
        scale /= np.sqrt(degree)
    pairs = scale[:, None] * weights * scale[None, :]
    return (pairs + pairs.T) * (total / pairs.sum())


def cyclic_design(classes: int, block: Sequence[int], total: float) -> dict[LabelSet, float]:
    """Label sets block + i (mod K) with equal samples: every class is in equally many.

    A block whose differences cover all residues equally often, a difference set such as (0, 1, 3) modulo 7, makes a
    balanced incomplete block design: all pairs of classes occur together equally often, and C_m is isotropic.
    """
    shifted = {tuple(sorted((k + i) % classes for k in block)) for i in range(classes)}
    return dict.fromkeys(sorted(shifted), total / len(shifted))


def relabel_pairs(pairs: np.ndarray, order: Sequence[int] | np.ndarray) -> np.ndarray:
    """The same graph on other classes: vertex i becomes class order[i]. Its spectrum κ_2 stays, κ_pool moves."""
    order = np.asarray(order)
    relabelled = np.empty_like(pairs)
    relabelled[np.ix_(order, order)] = pairs
    return relabelled


def _edges(classes: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    edges = np.zeros((classes, classes))
    np.add.at(edges, (first, second), 1.0)
    return edges + edges.T


def step_counts(classes: int, most: float, ratio: float) -> np.ndarray:
    """Samples of single classes: the first half in full, the rest at `ratio`."""
    return np.where(np.arange(classes) < classes // 2, most, most * ratio)


def mixture(first: LabelDistribution, second: LabelDistribution, share: float) -> LabelDistribution:
    """(1 − share) of the first and `share` of the second distribution's samples, over the same classes."""
    counts: dict[LabelSet, float] = {}
    for part, distribution in ((1 - share, first), (share, second)):
        for label_set, count in distribution.as_counts().items():
            counts[label_set] = counts.get(label_set, 0.0) + part * count
    return LabelDistribution.from_counts(counts, first.classes, class_names=first.class_names)


def mixture_with_kappa(
    first: LabelDistribution,
    second: LabelDistribution,
    kappa: float,
    *,
    multiplicity: int | None = None,
    target: Target = "normalised",
) -> LabelDistribution:
    """The mixture of two distributions whose κ_m (κ_pool where no multiplicity is given) is the one asked for.

    κ of a mixture is concave in the share for two distributions of equal samples, and continuous for any two.

    Raises
    ------
    ValueError
        If kappa does not lie between those of the two distributions.
    """

    def excess(share: float) -> float:
        mixed = mixture(first, second, share)
        spectrum = (
            pooled_spectrum(mixed, target) if multiplicity is None else multiplicity_spectrum(mixed, multiplicity)
        )
        return spectrum.kappa - kappa

    ends = excess(0.0), excess(1.0)
    if ends[0] * ends[1] > 0:
        raise ValueError(f"kappa: found {kappa:g}; these two reach {ends[0] + kappa:g} to {ends[1] + kappa:g}")
    return mixture(first, second, float(brentq(excess, 0.0, 1.0, xtol=_KAPPA)))


@dataclass(frozen=True)
class Scale:
    """How large a designed distribution is; by default the published experiments' (K = 10, 3,100 and 200)."""

    classes: int = 10
    alone: float = 3100.0
    per_pair: float = 200.0

    @property
    def pairs(self) -> float:
        """Samples of all pairs together."""
        return self.per_pair * self.classes * (self.classes - 1) / 2


REFERENCE = Scale()


def family(
    name: Family, members: int, *, seed: int, scale: Scale = REFERENCE, ratio: float = 0.2
) -> list[LabelDistribution]:
    """Distributions of claim 2 with the n_k fixed inside each family.

    F1: equal n_k, random regular pair graphs, mixed with all pairs alike in a random share. F2: the same with a step
    in n_k. F2b: a step and *one* graph, relabelled at random, so that κ_1, κ_2, δ_1, δ_2 and all counts are constant
    and only κ_pool moves.
    """
    alone = step_counts(scale.classes, scale.alone, 1.0 if name == "F1" else ratio)
    rng = stream(seed, "design", name)
    if name == "F2b":
        graph = random_regular_pairs(scale.classes, scale.pairs, rng)
        graphs = [relabel_pairs(graph, rng.permutation(scale.classes)) for _ in range(members)]
    else:
        alike = complete_pairs(scale.classes, scale.pairs)
        shares = rng.uniform(size=members)
        graphs = [(1 - e) * alike + e * random_regular_pairs(scale.classes, scale.pairs, rng) for e in shares]
    return [singles_and_pairs(alone, pairs) for pairs in graphs]


def correlation_family(
    strengths: Sequence[float], *, seed: int, scale: Scale = REFERENCE, ratio: float = 1.0
) -> list[LabelDistribution]:
    """Distributions from independent to strongly correlated pairs, with the same random couplings throughout."""
    alone = step_counts(scale.classes, scale.alone, ratio)
    return [
        singles_and_pairs(
            alone, correlated_pairs(scale.classes, scale.pairs, strength, stream(seed, "design", "correlation"))
        )
        for strength in strengths
    ]

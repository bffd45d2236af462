"""Simulated truth plus seed noise: how often the rules are wrong, and how often they see what is there.

Each simulation goes through the code that decides the claims. Truths are set where a rule is most easily wrong: on the
edge of what it calls true or false. A rate of 5 % may reach 5 % + 3.5 standard errors in the simulations below.
"""

from __future__ import annotations

import numpy as np
import pytest

from ncpipe.report.claims.balanced import ALIGNED
from ncpipe.report.claims.claim_1a import REDUCTION, reduction_outcome
from ncpipe.report.claims.claim_1b import GROWTH
from ncpipe.report.claims.claim_2 import STRONG, WEAK
from ncpipe.report.claims.claim_4a import equivalence_outcome
from ncpipe.report.claims.claim_4b import only_then_outcome
from ncpipe.report.claims.claim_5 import GAP
from ncpipe.report.claims.tagwise import EQUIVALENT
from ncpipe.report.evidence import Cell, combine, judge, lies_above, lies_below
from ncpipe.statistics import spearman_interval

RUNS = 600
LIMIT = 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / RUNS)
SEEDS = 5


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((RUNS, *shape, SEEDS))


def rates(decide, samples: np.ndarray) -> dict[str, float]:
    """Share of each verdict; `samples` has shape (runs, cells, seeds)."""
    verdicts = [combine(decide([Cell(str(i), "", cell) for i, cell in enumerate(run)])) for run in samples]
    return {outcome: np.mean([v == outcome for v in verdicts]) for outcome in ("supported", "contradicted")}


def above_zero(cells):
    return lies_above(cells, above=0.0, below=0.0)


def test_claim_6_is_not_supported_when_one_metric_does_not_move():
    truth = np.array([0.5, 0.5, 0.5, 0.5, 0.0])[:, None]
    assert rates(above_zero, truth + 0.05 * noise(1, 5))["supported"] <= LIMIT


@pytest.mark.parametrize("cells", [5, 20])
def test_claim_6_is_not_contradicted_when_every_metric_worsens_by_next_to_nothing(cells):
    # The worst case for "contradicted if one": without the correction it would be 1 - 0.975^k, 12 % and 40 %.
    assert rates(above_zero, 1e-9 + noise(2, cells))["contradicted"] <= LIMIT


def test_claim_6_has_power():
    # An effect of three times the noise of the seeds, in five metrics: power 0.98 (supported), 0.93 (contradicted).
    assert rates(above_zero, 3.0 + noise(3, 5))["supported"] > 0.95
    assert rates(above_zero, np.array([3.0, 3, 3, 3, -3])[:, None] + noise(3, 5))["contradicted"] > 0.85


def test_claim_1b_and_the_terminal_phase_on_their_edges():
    def grows(cells):
        return lies_above(cells, above=GROWTH, below=GROWTH)

    def close(cells):
        return lies_below(cells, below=GAP, above=np.inf)

    def aligned(cells):
        return lies_below(cells, below=ALIGNED, above=ALIGNED)

    for rule, edge in ((grows, GROWTH), (close, GAP), (aligned, ALIGNED)):
        found = rates(rule, edge + 0.1 * edge * noise(4, 2))
        assert found["supported"] <= LIMIT
        assert found["contradicted"] <= LIMIT


def test_claim_1a_on_its_edges():
    uniform_truth = [reduction_outcome(0.2 * run) for run in noise(5)]
    assert np.mean(np.equal(uniform_truth, 1)) <= LIMIT
    true_reduction = [reduction_outcome(REDUCTION + 0.05 * run) for run in noise(6)]
    assert np.mean(np.equal(true_reduction, -1)) <= LIMIT
    strong = [reduction_outcome(0.4 + 0.1 * run) for run in noise(7)]
    assert np.mean(np.equal(strong, 1)) > 0.9
    small = [reduction_outcome(0.05 + 0.05 * run) for run in noise(14)]
    assert np.mean(np.equal(small, -1)) > 0.9


@pytest.mark.parametrize("spread", [0.001, 0.005, 0.02])
def test_claim_4_on_its_edges(spread):
    # At an excess of exactly the margin, tag-wise averaging is neither equivalent nor beyond.
    samples = EQUIVALENT + spread * noise(8)
    for rule in (equivalence_outcome, only_then_outcome):
        codes = np.array([rule(run) for run in samples])
        assert np.mean(codes == 1) <= LIMIT
        assert np.mean(codes == -1) <= LIMIT


def test_claim_4_has_power():
    exact = [equivalence_outcome(0.003 * run) for run in noise(9)]
    assert np.mean(np.equal(exact, 1)) > 0.95
    beyond = [equivalence_outcome(0.02 + 0.003 * run) for run in noise(10)]
    assert np.mean(np.equal(beyond, -1)) > 0.95


def correlated(rng: np.random.Generator, truth: float, members: int) -> tuple[np.ndarray, np.ndarray]:
    """Bivariate normal pairs whose population rank correlation is `truth` (Pearson 1907)."""
    r = 2 * np.sin(np.pi * truth / 6)
    x, z = rng.standard_normal((2, members))
    return x, r * x + np.sqrt(1 - r**2) * z


def test_claim_2_on_its_edges_and_its_power():
    rng = np.random.Generator(np.random.PCG64(11))
    at_strong = [spearman_interval(*correlated(rng, STRONG, 40)).low > STRONG for _ in range(RUNS)]
    assert np.mean(at_strong) <= LIMIT
    # Three families that all are barely not weak; one of three may contradict.
    confidence = 1 - 0.05 / 3
    weak = [
        any(spearman_interval(*correlated(rng, WEAK, 40), confidence=confidence).high < WEAK for _ in range(3))
        for _ in range(RUNS)
    ]
    assert np.mean(weak) <= LIMIT
    strong = [all(spearman_interval(*correlated(rng, 0.95, 40)).low > STRONG for _ in range(3)) for _ in range(RUNS)]
    assert np.mean(strong) > 0.95


def test_judge_refuses_thresholds_that_overlap():
    with pytest.raises(ValueError, match="overlap"):
        judge(noise(13), above=0.0, below=0.1)


def test_judge_is_vectorised():
    samples = 0.5 + noise(12, 4)
    codes = judge(samples, above=0.0, below=0.0, comparisons=4)
    assert codes.shape == (RUNS, 4)
    for index in np.ndindex(20, 4):
        assert codes[index] == judge(samples[index], above=0.0, below=0.0, comparisons=4)

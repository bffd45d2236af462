"""Evidence and verdicts: how samples over seeds, and numbers without chance, become supported or contradicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ncpipe.statistics import CONFIDENCE, mean_interval

Outcome = Literal["supported", "contradicted", "undecided"]
Where = Literal["optimum", "networks"]

MINIMUM_SEEDS = 5  # three give t = 4.30
UNCERTIFIED = "its optimum is not certified"


@dataclass(frozen=True)
class Evidence:
    """One number that a rule looked at.

    Parameters
    ----------
    subject : str
        Data set, setting, network, family: what the number is of.
    statistic : str
        What the number is.
    value, low, high : float or None
        The estimate and its 95 % interval; no interval where nothing is random.
    seeds : int
        Runs behind it; 0 for what follows from labels alone.
    verdict : {"supported", "contradicted", "undecided"}
        What this entry alone says.
    slack : float or None
        How far inside the region that supports the claim it lies (negative: outside), in units of the statistic.
    decides : bool
        Whether the claim's verdict rests on it, or it is only shown.
    reason : str
        Why it is undecided, or not deciding; else empty.
    """

    subject: str
    statistic: str
    value: float | None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    verdict: Outcome = "undecided"
    slack: float | None = None
    decides: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim, decided in one place. The number is that of the entry that the verdict hangs on."""

    claim: str
    statement: str
    where: Where
    verdict: Outcome
    statistic: str
    value: float | None
    low: float | None
    high: float | None
    reason: str
    files: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()


def judge(samples: np.ndarray, *, above: float, below: float, comparisons: int = 1) -> np.ndarray:
    """Decide "the mean lies above" from samples over seeds: +1 supported, -1 contradicted, 0 undecided.

    Parameters
    ----------
    samples : ndarray, shape (..., seeds)
    above : float
        Supported where the 95 % interval of the mean lies above it.
    below : float
        Contradicted where the interval of confidence 1 - 0.05 / comparisons lies below it; at most `above`.
    comparisons : int
        How many such decisions contradict a claim, any one of them.

    Returns
    -------
    ndarray of int, shape (...)

    Raises
    ------
    ValueError
        If below > above: a mean between them would be both.
    """
    if below > above:
        raise ValueError(f"the thresholds overlap: supported above {above}, contradicted below {below}")
    low = mean_interval(samples).low
    high = mean_interval(samples, confidence=1 - (1 - CONFIDENCE) / comparisons).high
    return np.where(low > above, 1, 0) - np.where(high < below, 1, 0)


@dataclass(frozen=True)
class Cell:
    """Samples over seeds of one statistic of one subject (and its parts), or why there are none."""

    subject: str
    statistic: str
    samples: np.ndarray
    missing: str = ""
    key: tuple[str, ...] = ()

    def obstacle(self) -> str:
        """Why nothing can be decided from it, or nothing."""
        if self.missing:
            return self.missing
        if len(self.samples) < MINIMUM_SEEDS:
            seeds = f"{len(self.samples)} seed" + ("" if len(self.samples) == 1 else "s")
            return f"{seeds}; at least {MINIMUM_SEEDS} are needed"
        if not np.isfinite(self.samples).all():
            return "not defined in every run"
        return ""

    @property
    def few(self) -> bool:
        """Whether it has runs, but too few: such a network is shown and does not decide."""
        return 0 < len(self.samples) < MINIMUM_SEEDS


def outcome_of(code: int) -> Outcome:
    """Name the outcome of +1, 0 or -1."""
    outcomes: dict[int, Outcome] = {1: "supported", 0: "undecided", -1: "contradicted"}
    return outcomes[int(code)]


def number(value: Any) -> float | None:
    """Return a plain float, or None for what is not finite: JSON and tables have no NaN."""
    return None if value is None or not np.isfinite(value) else float(value)


def weigh(
    cells: Sequence[Cell],
    decide: Callable[[np.ndarray, int], int],
    slack: Callable[[float, float], float],
) -> list[Evidence]:
    """Turn cells into evidence; `decide` gets samples and the number of comparisons, `slack` the interval's ends."""
    comparisons = max(1, sum(not cell.obstacle() for cell in cells))
    evidence = []
    for cell in cells:
        obstacle = cell.obstacle()
        finite = cell.samples[np.isfinite(cell.samples)]
        value, low, high = mean_interval(finite) if len(finite) else (np.nan, np.nan, np.nan)
        evidence.append(
            Evidence(
                subject=cell.subject,
                statistic=cell.statistic,
                value=number(value),
                low=number(low),
                high=number(high),
                seeds=len(finite),
                verdict="undecided" if obstacle else outcome_of(decide(cell.samples, comparisons)),
                slack=None if obstacle else number(slack(float(low), float(high))),
                decides=not cell.few,
                reason=obstacle,
            )
        )
    return evidence


def lies_above(cells: Sequence[Cell], *, above: float, below: float) -> list[Evidence]:
    """Decide of each cell whether its mean lies above a threshold; contradicted where it lies below the other."""
    return weigh(
        cells,
        lambda samples, k: int(judge(samples, above=above, below=below, comparisons=k)),
        lambda low, high: low - above,
    )


def lies_below(cells: Sequence[Cell], *, below: float, above: float) -> list[Evidence]:
    """Decide of each cell whether its mean lies below a threshold; contradicted where it lies above the other."""
    return weigh(
        cells,
        lambda samples, k: int(judge(-samples, above=-below, below=-above, comparisons=k)),
        lambda low, high: below - high,
    )


def exactly(
    subject: str, statistic: str, value: float | None, supports: bool, slack: float, *, certified: bool = True
) -> Evidence:
    """Evidence from labels alone: nothing is random, so a number decides by itself, if its optimum is certified."""
    if not certified:
        return Evidence(subject, statistic, number(value), reason=UNCERTIFIED)
    verdict: Outcome = "supported" if supports else "contradicted"
    return Evidence(subject, statistic, number(value), verdict=verdict, slack=number(slack))


def combine(evidence: Iterable[Evidence]) -> Outcome:
    """Contradicted if one deciding entry contradicts, supported if all support, else undecided."""
    verdicts = [e.verdict for e in evidence if e.decides]
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts and all(v == "supported" for v in verdicts) else "undecided"


def conclude(
    claim: str, statement: str, where: Where, evidence: Sequence[Evidence], files: Iterable[str], *, missing: str
) -> Verdict:
    """Make the verdict, with the number of the entry it hangs on; `missing` explains an empty list of evidence."""
    verdict = combine(evidence)
    deciding = [e for e in evidence if e.decides and e.verdict == verdict]
    shown = deciding or list(evidence)
    if not shown:
        return Verdict(claim, statement, where, "undecided", "", None, None, None, missing, tuple(files))
    # The entry with the least room: the weakest support, or the strongest contradiction.
    hinge = min(shown, key=lambda e: np.inf if e.slack is None else e.slack)
    total = sum(e.decides for e in evidence)
    if verdict == "supported":
        reason = f"all {total} entries support; the weakest is {hinge.subject}" if total > 1 else hinge.subject
    elif verdict == "contradicted":
        reason = f"{len(deciding)} of {total} entries contradict; the strongest is {hinge.subject}"
    else:
        supporting = sum(e.decides and e.verdict == "supported" for e in evidence)
        why = hinge.reason or "its interval does not decide"
        reason = f"{hinge.subject}: {why}" + (f"; {supporting} of {total} entries support" if total > 1 else "")
    few = [e for e in evidence if not e.decides and e.reason]
    if few and verdict != "undecided":
        reason += f"; {len(few)} entries shown only ({few[0].subject}: {few[0].reason})"
    return Verdict(
        claim, statement, where, verdict, hinge.statistic, hinge.value, hinge.low, hinge.high,
        reason, tuple(dict.fromkeys(files)), tuple(evidence),
    )  # fmt: skip

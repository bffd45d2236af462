"""A claim: its words, its rule and how a verdict on it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ncpipe.report.claims.tables import Tables
from ncpipe.report.evidence import Evidence, Verdict, Where, conclude

EXACT = 1e-3  # what "0" and "exact" mean at a certified optimum, whose prototypes carry the solver's rounding
ROUNDING = 1e-9


@dataclass(frozen=True)
class Claim:
    """What is claimed, the rule in words and as a function, and what a verdict would mean to a reader."""

    name: str
    statement: str
    rule: str
    meaning: str
    decide: Callable[[Tables, Where], Verdict]

    def verdict(
        self, where: Where, evidence: Sequence[Evidence], files: Iterable[str], *, missing: str = ""
    ) -> Verdict:
        """Conclude from evidence; `missing` explains an empty list of it."""
        return conclude(self.name, self.statement, where, evidence, files, missing=missing)

    def missing(self, where: Where, reason: str, files: Iterable[str] = ()) -> Verdict:
        """Undecided, since an ingredient is missing."""
        return self.verdict(where, (), files, missing=reason)

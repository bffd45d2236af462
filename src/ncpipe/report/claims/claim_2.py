"""Claim 2: the label covariance spectrum controls the weakest direction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ncpipe.report.claims.claim import Claim
from ncpipe.report.claims.tables import FILES, Tables
from ncpipe.report.evidence import Evidence, Verdict, Where, number, outcome_of
from ncpipe.statistics import CONFIDENCE, spearman_interval

STRONG, WEAK = 0.7, 0.3  # rank correlations


_PREDICTORS = {"kappa_pool": "κ_pool", "kappa_1": "κ_1", "kappa_2": "κ_2"}
_RESPONSES = {"sigma_min_logits": "σ_{K-1} of the logits", "margin": "the margin", "lambda_critical": "λ_crit"}


def decide(tables: Tables, where: Where) -> Verdict:
    """Spectrum controls geometry: Spearman's ρ of κ_pool and σ_{K-1} of the optimum's logits, in every family."""
    if where == "networks":
        return CLAIM.missing(where, "no network was trained on the families of label distributions")
    files = [FILES["spectrum_study"]]
    study = tables.spectrum_study
    if study is None:
        return CLAIM.missing(where, "the study of families was not computed in this run", files)
    families = list(study.groupby("family", sort=False))
    evidence = []
    for family, rows in families:
        for response, name in _RESPONSES.items():
            for predictor, symbol in _PREDICTORS.items():
                decides = (predictor, response) == ("kappa_pool", "sigma_min_logits")
                pairs = rows[[predictor, response]].dropna()
                statistic = f"Spearman's ρ of {symbol} and {name}"
                evidence.append(_correlation(str(family), statistic, pairs, decides=decides, comparisons=len(families)))
    return CLAIM.verdict(where, evidence, files)


def _correlation(family: str, statistic: str, pairs: pd.DataFrame, *, decides: bool, comparisons: int) -> Evidence:
    x, y = pairs.to_numpy().T
    rho, low, high = spearman_interval(x, y)
    strict = spearman_interval(x, y, confidence=1 - (1 - CONFIDENCE) / comparisons).high
    reason = ""
    if not np.isfinite(rho):
        reason = "constant in this family"
    elif not np.isfinite(low):
        reason = f"{len(x)} members; at least 4 are needed"
    code = int(low > STRONG) - int(strict < WEAK)
    return Evidence(
        f"family {family}",
        statistic,
        number(rho),
        number(low),
        number(high),
        verdict=outcome_of(code),
        slack=number(low - STRONG),
        decides=decides,
        reason=reason,
    )


CLAIM = Claim(
    name="2",
    statement="The label covariance spectrum controls the weakest direction of the terminal geometry",
    rule=(
        "Families of label distributions with class counts fixed inside each: supported if the lower bound of "
        "Spearman's ρ between κ_pool and the smallest singular value of the optimum's logits exceeds "
        f"{STRONG:g} in every family, contradicted if the upper bound lies below {WEAK:g} in one."
    ),
    meaning="Whether label statistics alone tell which class contrast the network will separate least.",
    decide=decide,
)

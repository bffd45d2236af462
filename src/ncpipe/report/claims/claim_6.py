"""Claim 6: imbalance worsens every collapse metric; by definition, and as the code of Li et al. computes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ncpipe.experiment.setting import Setting, baseline
from ncpipe.report.claims.claim import EXACT, Claim
from ncpipe.report.claims.tables import FILES, Tables, metric_ratios, values_at_optimum
from ncpipe.report.evidence import Evidence, Verdict, Where, exactly, lies_above
from ncpipe.results.tables import COLLAPSE_METRICS, METRIC_LABELS


def _decide(tables: Tables, where: Where, *, variant: str) -> Verdict:
    """Imbalance worsens every metric: five paired log-ratios for each data set, setting and network."""
    claim = CLAIM if variant == "definition" else CLAIM_LI2024
    base = baseline(tables.settings)
    imbalanced = [s for s in tables.settings.values() if s.imbalanced]
    files = [FILES["optimum" if where == "optimum" else "metrics"]]
    if base is None or not imbalanced:
        return claim.missing(where, "no pair of a balanced and an imbalanced setting in this run", files)
    if where == "networks":
        evidence = lies_above(metric_ratios(tables, imbalanced, variant=variant), above=0.0, below=0.0)
    else:
        evidence = _differences_at_optimum(tables, base, imbalanced, variant)
    return claim.verdict(where, evidence, files, missing="no data set has both settings")


def _differences_at_optimum(
    tables: Tables, base: Setting, imbalanced: Sequence[Setting], variant: str
) -> list[Evidence]:
    """Differences, not ratios: at the balanced optimum our metrics are 0."""
    values = {metric: values_at_optimum(tables, metric, variant) for metric in COLLAPSE_METRICS}
    evidence = []
    computed = set(tables.optimum[["dataset", "setting", "objective"]].itertuples(index=False, name=None))
    for dataset, objective in dict.fromkeys((d, o) for d, _, o in sorted(computed)):
        for setting in (s for s in imbalanced if (dataset, s.name, objective) in computed):
            for metric in COLLAPSE_METRICS:
                treated = values[metric].get((dataset, setting.name, objective))
                control = values[metric].get((dataset, base.name, objective))
                subject = f"{dataset}, {setting.label}, {objective}, {METRIC_LABELS[metric]}"
                statistic = "difference from balanced"
                if treated is None or control is None or not np.isfinite(treated - control):
                    evidence.append(Evidence(subject, statistic, None, reason="not defined at this optimum"))
                elif abs(treated - control) <= EXACT:
                    reason = "the same as balanced"
                    evidence.append(Evidence(subject, statistic, treated - control, slack=0.0, reason=reason))
                else:
                    change = treated - control
                    certified = tables.certified(dataset, setting.name) and tables.certified(dataset, base.name)
                    evidence.append(exactly(subject, statistic, change, change > 0, change, certified=certified))
    return evidence


CLAIM = Claim(
    name="6",
    statement="Imbalance worsens every collapse metric at the last epoch",
    rule=(
        "Log-ratios to the balanced runs, paired by seed, equal epochs, our definitions: supported if all "
        "five intervals lie above 0 on every data set, contradicted if one lies below."
    ),
    meaning="Whether collapse is weaker when classes differ in frequency, by every measure of it.",
    decide=partial(_decide, variant="definition"),
)


CLAIM_LI2024 = Claim(
    name="6-li2024",
    statement="Imbalance worsens every collapse metric at the last epoch, as the code of Li et al. computes them",
    rule="As claim 6, with the centre and the uncentred NC2-H of the published code.",
    meaning="The same question with the published bookkeeping, whose centre itself moves with imbalance.",
    decide=partial(_decide, variant="li2024"),
)

"""The claims and the rules that decide them, one module for each.

A claim gets two verdicts: at the certified optimum, which knows labels only, and in networks, over seeds. Each rests
on *evidence*, one entry for every data set, setting, network and statistic that the rule looks at:

- supported: every deciding entry supports;
- contradicted: one entry contradicts. Where "one of k" decides, its interval has confidence 1 - 0.05 / k, so that
  looking at many entries does not raise the rate of false contradictions;
- undecided: otherwise, and whenever an ingredient is missing; the reason says which.

Seeds vary initialisation and order of the samples, not the data: so do all intervals over seeds.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ncpipe.report.claims import (
    claim_1a,
    claim_1b,
    claim_2,
    claim_3,
    claim_4a,
    claim_4b,
    claim_5,
    claim_6,
    claim_li1,
    claim_li2,
)
from ncpipe.report.claims.tables import Tables, metric_ratios
from ncpipe.report.evidence import Verdict, lies_above
from ncpipe.results.tables import VARIANT_LABELS, write_table
from ncpipe.stores.files import write_result

CLAIMS = {
    claim.name: claim
    for claim in (
        claim_1a.CLAIM,
        claim_1b.CLAIM,
        claim_2.CLAIM,
        claim_3.CLAIM,
        claim_4a.CLAIM,
        claim_4b.CLAIM,
        claim_5.CLAIM,
        claim_6.CLAIM,
        claim_6.CLAIM_LI2024,
        claim_li1.CLAIM,
        claim_li2.CLAIM,
    )
}


def decide(tables: Tables) -> list[Verdict]:
    """Decide every claim, at the optimum and in networks, in the order of the claims."""
    return [claim.decide(tables, where) for claim in CLAIMS.values() for where in ("optimum", "networks")]


_PLACE = ("variant", "dataset", "network", "metric", "setting", "label", "decides")
CONTROLS = (*_PLACE, "value", "low", "high", "seeds", "reason")


def control_table(tables: Tables) -> pd.DataFrame:
    """What the controls change: the log-ratios to balanced of claim 6, and the same of the settings that control it.

    Returns
    -------
    DataFrame
        Columns `CONTROLS`; `decides` tells the settings of claim 6 from their controls.
    """
    records = []
    for variant in VARIANT_LABELS:
        for setting in tables.settings.values():
            if not (setting.imbalanced or setting.controlled or setting.profile == "uniform"):
                continue
            cells = metric_ratios(tables, [setting], variant=variant)
            for cell, entry in zip(cells, lies_above(cells, above=0.0, below=0.0), strict=True):
                interval = (entry.value, entry.low, entry.high, entry.seeds, entry.reason)
                records.append((variant, *cell.key, setting.name, setting.label, setting.imbalanced, *interval))
    return pd.DataFrame(records, columns=list(CONTROLS))


def write_claims(tables: Tables, json_path: Path, csv_path: Path) -> list[Verdict]:
    """Decide, and write ``claims.json`` (with all evidence and the controls) and ``claims.csv`` (one row a verdict)."""
    verdicts = decide(tables)
    controls = control_table(tables)
    write_result(
        json_path,
        {
            "claims": [asdict(v) for v in verdicts],
            "controls": controls.astype(object).where(controls.notna(), None).to_dict(orient="records"),
        },
    )
    rows = [{k: v for k, v in asdict(verdict).items() if k != "evidence"} for verdict in verdicts]
    write_table(csv_path, pd.DataFrame(rows).assign(files=["; ".join(v.files) for v in verdicts]))
    return verdicts

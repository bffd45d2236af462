"""What the claims on synthesis share: the rows of their design."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from ncpipe.report.claims.tables import Tables
from ncpipe.report.evidence import UNCERTIFIED, Where

NO_DESIGN = "no exponential setting in this run: a step profile has one ratio and cannot test a power law"


def synthesis_rows(tables: Tables, where: Where, hypotheses: Sequence[str]) -> pd.DataFrame:
    """Rows of claim 1's design: exponential profile, centred basis, frequency of multiplicity one."""
    frame = tables.synthesis
    design = [s.name for s in tables.settings.values() if s.profile == "exponential" and s.imbalanced]
    rows = frame["setting"].isin(design) & (frame["basis"] == "centred") & frame["hypothesis"].isin(hypotheses)
    rows &= frame["frequency"] == "multiplicity_one"
    rows &= (frame["network"] == "optimum") == (where == "optimum")
    return frame.loc[rows]


def synthesis_groups(tables: Tables, rows: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame, str]]:
    """Subject and rows of each data set, setting, network and multiplicity, and why γ means nothing there, if so."""
    for (dataset, setting, network, m), group in rows.groupby(
        ["dataset", "setting", "network", "multiplicity"], sort=False
    ):
        place = "" if network == "optimum" else f", {network}"
        unidentified = group.loc[(group["hypothesis"] == "fitted") & ~group["identified"], "reason"]
        missing = f"not identified: {unidentified.iloc[0]}" if len(unidentified) else ""
        if network == "optimum" and not tables.certified(str(dataset), str(setting)):
            missing = UNCERTIFIED
        yield f"{dataset}, {tables.label(str(setting))}{place}, multiplicity {m:g}", group, missing

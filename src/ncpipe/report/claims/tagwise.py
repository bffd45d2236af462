"""What the claims on tag-wise averaging share: isotropy of the labels, residuals and their excess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ncpipe.experiment.setting import baseline
from ncpipe.labels.spectrum import is_isotropic
from ncpipe.report.claims.tables import Tables, final_values, paired
from ncpipe.report.evidence import Cell

EQUIVALENT = 0.01  # margin of the tag-wise residual


def isotropic_labels(payload: Mapping[str, Any]) -> bool:
    """Whether C_m is a multiple of the projection at every multiplicity; null (m = K, where C_m = 0) counts."""
    deltas = [entry["anisotropy"] for entry in payload["spectrum"]["multiplicities"]]
    return all(map(is_isotropic, deltas))


def tagwise_residuals(payload: Mapping[str, Any]) -> dict[int, float]:
    """Residual with one factor at each multiplicity >= 2, at the certified optimum."""
    entries = [e for e in payload["tagwise"] if e["multiplicity"] >= 2 and e["residual"] is not None]
    return {int(e["multiplicity"]): float(e["residual"]) for e in entries}


def excess_cells(tables: Tables, *, isotropic: bool) -> list[Cell]:
    """Tag-wise residual of each (an)isotropic setting minus that of the balanced runs, paired by seed."""
    base = baseline(tables.settings)
    if base is None:
        return []
    values = final_values(tables, "tagwise_residual")
    cells = []
    for (dataset, network, name), treated in values.items():
        payload = tables.theory.get((dataset, name, tables.objectives.get(network, "")))
        control = values.get((dataset, network, base.name))
        if name == base.name or payload is None or control is None or isotropic_labels(payload) != isotropic:
            continue
        subject = f"{dataset}, {tables.label(name)}, {network}"
        cells.append(Cell(subject, "excess of the tag-wise residual", paired(treated, control, np.subtract)))
    return cells

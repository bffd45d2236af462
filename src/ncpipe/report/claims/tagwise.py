"""What the claims on tag-wise averaging share: isotropy of the labels, residuals and their excess."""

from __future__ import annotations

import numpy as np

from ncpipe.experiment.setting import baseline
from ncpipe.labels.spectrum import is_isotropic
from ncpipe.report.claims.tables import Tables, final_values, paired
from ncpipe.report.evidence import Cell
from ncpipe.results.theory_file import Theory

EQUIVALENT = 0.01  # margin of the tag-wise residual


def isotropic_labels(theory: Theory) -> bool:
    """Whether C_m is a multiple of the projection at every multiplicity; m = K, where C_m = 0, counts."""
    return all(is_isotropic(part.anisotropy) for part in theory.spectra if part.multiplicity is not None)


def tagwise_residuals(theory: Theory) -> dict[int, float]:
    """Residual with one factor at each multiplicity >= 2, at the certified optimum."""
    return {m: residual for m, residual in theory.tagwise.items() if m >= 2 and residual is not None}


def excess_cells(tables: Tables, *, isotropic: bool) -> list[Cell]:
    """Tag-wise residual of each (an)isotropic setting minus that of the balanced runs, paired by seed."""
    base = baseline(tables.settings)
    if base is None:
        return []
    values = final_values(tables, "tagwise_residual")
    cells = []
    for (dataset, network, name), treated in values.items():
        theory = tables.theory.get((dataset, name, tables.objectives.get(network, "")))
        control = values.get((dataset, network, base.name))
        if name == base.name or theory is None or control is None or isotropic_labels(theory) != isotropic:
            continue
        subject = f"{dataset}, {tables.label(name)}, {network}"
        cells.append(Cell(subject, "excess of the tag-wise residual", paired(treated, control, np.subtract)))
    return cells

"""Draw a figure by its name, from files: what the workflow calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError
from ncpipe.experiment.setting import settings_from_config
from ncpipe.figures.dynamics import dynamics, final_bars
from ncpipe.figures.gap import gap
from ncpipe.figures.imbalance import bookkeeping, readings
from ncpipe.figures.spectrum import spectrum
from ncpipe.figures.studies import (
    critical_lambda,
    imbalance_ratios,
    phase_diagram,
    spectrum_families,
    synthetic_labels,
    tagwise_grid,
)
from ncpipe.figures.synthesis import exponents, residuals
from ncpipe.results.tables import (
    CRITICAL_STUDY,
    METRICS,
    OPTIMUM,
    PHASE_STUDY,
    RATIOS_STUDY,
    SPECTRUM_STUDY,
    SYNTHESIS,
    SYNTHETIC_STUDY,
    TAGWISE_STUDY,
    read_table,
)
from ncpipe.results.theory_file import read_theory_files

_COLUMNS: dict[str, tuple[str, ...]] = {
    "metrics": METRICS,
    "optimum": OPTIMUM,
    "synthesis": SYNTHESIS,
    "phase_study": PHASE_STUDY,
    "critical_study": CRITICAL_STUDY,
    "ratios_study": RATIOS_STUDY,
    "spectrum_study": (*SPECTRUM_STUDY, "sigma_min_predictions"),
    "tagwise_study": TAGWISE_STUDY,
    "synthetic_study": SYNTHETIC_STUDY,
}
# The function of each figure, the files it reads, in the order of its arguments, and the names it is drawn for.
FIGURES: dict[str, tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]] = {
    "dynamics": (dynamics, ("metrics",), ("network", "variant")),
    "final": (final_bars, ("metrics", "optimum"), ("network", "objective", "variant")),
    "gap": (gap, ("metrics", "theory"), ("network", "objective")),
    "spectrum": (spectrum, ("theory",), ()),
    "bookkeeping": (bookkeeping, ("metrics", "theory", "ratios_study"), ("networks",)),
    "readings": (readings, ("metrics", "optimum", "theory", "ratios_study"), ("networks",)),
    "synthesis": (residuals, ("synthesis",), ("network",)),
    "exponents": (exponents, ("synthesis",), ("network",)),
    "study-phase": (phase_diagram, ("phase_study",), ()),
    "study-critical": (critical_lambda, ("critical_study",), ()),
    "study-ratios": (imbalance_ratios, ("ratios_study",), ()),
    "study-spectrum": (spectrum_families, ("spectrum_study",), ()),
    "study-tagwise": (tagwise_grid, ("tagwise_study",), ()),
    "study-synthetic": (synthetic_labels, ("synthetic_study",), ()),
}
# Without these a figure leaves panels out, and says so.
_MAY_LACK = {("bookkeeping", "ratios_study"), ("readings", "ratios_study")}


def draw(
    figure: str,
    output_stem: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, Path | Sequence[Path]],
    names: Mapping[str, Any],
) -> None:
    """Write ``<output_stem>.svg``, ``.png`` and ``.csv`` of one figure; `FIGURES` says what each one needs.

    Parameters
    ----------
    figure : str
        A key of `FIGURES`.
    output_stem : Path
    settings : mapping
        ``settings`` of the configuration, whole and in its order: they fix colours and labels.
    files : mapping
        Of ``metrics``, ``optimum``, ``synthesis`` and, for each study, ``<name>_study`` to a table, and of ``theory``
        to the theory stage's results. Files that the figure does not need are not read.
    names : mapping
        Of ``network``, ``objective`` and ``variant`` ("definition" or "li2024") to the one drawn; of ``networks`` to
        several, with their objectives.

    Raises
    ------
    InputError
        If the figure is unknown, a file or name that it needs is absent, or its table lacks what it draws.
    """
    if figure not in FIGURES:
        raise InputError(f"figure {figure!r}: unknown; allowed are {', '.join(FIGURES)}")
    function, needed, options = FIGURES[figure]
    absent = [key for key in needed if key not in files and (figure, key) not in _MAY_LACK]
    absent += [key for key in options if key not in names]
    if absent:
        raise InputError(f"figure {figure}: needs {', '.join(absent)}")
    call = partial(function, *(_read(key, files) for key in needed))
    if not figure.startswith("study-"):  # studies have distributions of their own, not settings
        call = partial(call, settings_from_config(settings))
    call(**{key: names[key] for key in options}, output_stem=output_stem)


def _read(key: str, files: Mapping[str, Path | Sequence[Path]]) -> Any:
    """Read one kind of input: many theory results, or one table; None where it is absent."""
    if key not in files:
        return None
    found = files[key]
    paths = [found] if isinstance(found, (str, Path)) else list(found)
    return read_theory_files(paths) if key == "theory" else read_table(paths[0], _COLUMNS[key])

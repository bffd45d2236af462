"""Draw a figure by its name, from files: what the workflow calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError, check_choice
from ncpipe.experiment.setting import settings_from_config
from ncpipe.figures import catalogue
from ncpipe.figures.bookkeeping import bookkeeping
from ncpipe.figures.dynamics import dynamics
from ncpipe.figures.exponents import exponents
from ncpipe.figures.final import final
from ncpipe.figures.gap import gap
from ncpipe.figures.readings import readings
from ncpipe.figures.spectrum import spectrum
from ncpipe.figures.study_critical import study_critical
from ncpipe.figures.study_phase import study_phase
from ncpipe.figures.study_ratios import study_ratios
from ncpipe.figures.study_spectrum import study_spectrum
from ncpipe.figures.study_synthetic import study_synthetic
from ncpipe.figures.study_tagwise import study_tagwise
from ncpipe.figures.style import house_style, save
from ncpipe.figures.synthesis import synthesis
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
from ncpipe.results.theory_file import read_theories

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
# A figure's tables are the arguments of its function, in the order of the catalogue.
_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    dynamics,
    final,
    bookkeeping,
    readings,
    spectrum,
    gap,
    synthesis,
    exponents,
    study_phase,
    study_critical,
    study_ratios,
    study_spectrum,
    study_tagwise,
    study_synthetic,
)
FUNCTIONS = {function.__name__.replace("_", "-"): function for function in _FUNCTIONS}


def draw(
    name: str,
    output_stem: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, Path | Sequence[Path]],
    names: Mapping[str, Any],
) -> None:
    """Write ``<output_stem>.svg``, ``.png`` and ``.csv`` of one figure of the catalogue.

    Parameters
    ----------
    name : str
        Name of a figure of the catalogue.
    output_stem : Path
    settings : mapping
        ``settings`` of the configuration, whole and in its order: they fix colours and labels.
    files : mapping
        Of the tables of the catalogue to their files. A figure on the readings of r leaves panels out where its study
        is absent. Files that the figure does not need are not read.
    names : mapping
        What the function's keyword-only parameters are: of ``network``, ``objective`` and ``variant`` ("definition" or
        "li2024") to the one drawn; of ``networks`` to several, with their objectives.

    Raises
    ------
    InputError
        If the figure is unknown, a file or name that it needs is absent, or its table lacks what it draws.
    """
    check_choice("figure", name, list(FUNCTIONS))
    figure = next(figure for figure in catalogue.FIGURES if figure.name == name)
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    wanted = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    optional = {table for table in figure.tables if table.endswith("_study") and figure.per != "study"}
    absent = [table for table in figure.tables if table not in files and table not in optional]
    absent += [key for key in wanted if key not in names]
    if absent:
        raise InputError(f"figure {name}: needs {', '.join(absent)}")
    arguments = [_read(table, files) for table in figure.tables]
    if figure.per != "study":  # studies have distributions of their own, not settings
        arguments.append(settings_from_config(settings))
    with house_style():
        drawing, numbers = FUNCTIONS[name](*arguments, **{key: names[key] for key in wanted})
        save(drawing, output_stem, numbers)


def _read(table: str, files: Mapping[str, Path | Sequence[Path]]) -> Any:
    """Read the results of the theory stage, or one table; None where it is absent."""
    if table not in files:
        return None
    entry = files[table]
    paths = [entry] if isinstance(entry, (str, Path)) else list(entry)
    return read_theories(paths) if table == "theory" else read_table(paths[0], _COLUMNS[table])

"""Every figure, one line each: its rule, its file, its place on the page and its caption follow from it.

Imports nothing heavy, since the Snakefile reads it. What draws a figure is the function of `ncpipe.figures.draw` of the
same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from ncpipe.experiment.plan import STUDIES

Per = Literal["trained network, variant", "trained networks", "once", "network", "trained network", "study"]

VARIANTS = ("definition", "li2024")
_WILDCARDS: Mapping[Per, str] = {
    "trained network, variant": "-{network}-{variant}",
    "network": "-{network}",
    "trained network": "-{network}",
}


@dataclass(frozen=True)
class Figure:
    """A figure of the pipeline.

    Parameters
    ----------
    name : str
        Also the name of its caption and, with what it is drawn for, of its file.
    category : str
        Where Snakemake's own report shows it.
    per : str
        What it is drawn for: each trained network (one with a backbone) and variant, all trained networks together,
        the whole configuration, each network, each trained network, or a study that is selected.
    tables : tuple of str
        What it is drawn from: ``metrics``, ``optimum``, ``synthesis``, ``theory`` or ``<study>_study``.
    """

    name: str
    category: str
    per: Per
    tables: tuple[str, ...]

    @property
    def pattern(self) -> str:
        """Its file without the ending, with the wildcards that it has."""
        return self.name + _WILDCARDS.get(self.per, "")


FIGURES = (
    Figure("dynamics", "Dynamics", "trained network, variant", ("metrics",)),
    Figure("final", "Last epoch", "trained network, variant", ("metrics", "optimum")),
    Figure("bookkeeping", "Readings of r", "trained networks", ("metrics", "theory", "ratios_study")),
    Figure("readings", "Readings of r", "trained networks", ("metrics", "optimum", "theory", "ratios_study")),
    Figure("spectrum", "Label covariance spectrum", "once", ("theory",)),
    Figure("gap", "Distance from the optimum", "network", ("metrics", "theory")),
    Figure("synthesis", "Synthesis", "trained network", ("synthesis",)),
    Figure("exponents", "Synthesis", "trained network", ("synthesis",)),
    *(Figure(f"study-{name}", "Studies of label distributions", "study", (f"{name}_study",)) for name in STUDIES),
)


def figures_of_run(studies: Sequence[str]) -> list[Figure]:
    """Return the figures of a run that has these studies, in the order of the page."""
    return [figure for figure in FIGURES if figure.per != "study" or figure.name.removeprefix("study-") in studies]


def figure_stems(networks: Sequence[str], trained: Sequence[str], studies: Sequence[str]) -> list[str]:
    """Return the files of a run's figures without endings, in the order of the page.

    Figures that stand side by side in the catalogue and are drawn for the same stand side by side on the page too.

    Parameters
    ----------
    networks, trained : sequence of str
        Networks of the run, and those of them that have a backbone.
    studies : sequence of str
    """
    places: Mapping[Per, list[dict[str, str]]] = {
        "trained network, variant": [{"network": n, "variant": v} for v in VARIANTS for n in trained],
        "network": [{"network": name} for name in networks],
        "trained network": [{"network": name} for name in trained],
    }
    stems = []
    for per, group in groupby(figures_of_run(studies), key=lambda figure: figure.per):
        figures = list(group)
        stems += [figure.pattern.format(**place) for place in places.get(per, [{}]) for figure in figures]
    return stems

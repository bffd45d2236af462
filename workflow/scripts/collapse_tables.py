"""Tidy tables over all runs and certified optima."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.collapse.tables import summarise
from ncpipe.jobs import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    summarise(
        [Path(manifest).parent for manifest in snakemake.input.runs],
        [Path(path) for path in snakemake.input.theory],
        metrics=Path(snakemake.output.metrics),
        optimum=Path(snakemake.output.optimum),
        synthesis=Path(snakemake.output.synthesis),
    )

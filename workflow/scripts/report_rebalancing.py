"""Compare runs with sampling weights with those without."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.jobs import job
from ncpipe.report.rebalancing import write_rebalancing

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    write_rebalancing(
        Path(snakemake.output.json),
        Path(snakemake.output.csv),
        metrics=Path(snakemake.input.metrics),
        optimum=Path(snakemake.input.optimum),
        weights=[Path(path) for path in snakemake.input.weights],
        settings=snakemake.params.settings,
        networks=snakemake.params.networks,
    )

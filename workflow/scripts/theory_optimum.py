"""Everything that theory says about one label distribution."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.jobs import job
from ncpipe.theory.analysis import write_theory

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    write_theory(
        snakemake.params.counts,
        len(snakemake.params.class_names),
        snakemake.params.class_names,
        snakemake.params.objective,
        Path(snakemake.output.theory),
        sampling=Path(snakemake.input.sampling) if snakemake.input.sampling else None,
    )

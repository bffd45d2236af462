"""Sampling weights of one setting."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.jobs import job
from ncpipe.theory.sampling import write_sampling_weights

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    write_sampling_weights(
        snakemake.params.counts,
        snakemake.params.class_names,
        snakemake.wildcards.target,
        Path(snakemake.output.weights),
        **snakemake.params.sampling,
    )

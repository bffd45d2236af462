"""Train one run."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.jobs import job
from ncpipe.train.loop import train_run

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as log:
    train_run(
        snakemake.params.settings,
        data=Path(snakemake.input.data).parent,
        folder=Path(snakemake.output.manifest).parent,
        log=log,
        sampling=Path(snakemake.input.sampling) if snakemake.input.sampling else None,
        device=snakemake.params.device,
        threads=snakemake.threads,
    )

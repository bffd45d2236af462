"""Train one run."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.experiment.disk import check_room
from ncpipe.jobs import job
from ncpipe.train.loop import train_run

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

folder = Path(snakemake.output.manifest).parent
with job(snakemake.log[0]) as log:
    check_room(folder, snakemake.resources.disk_mb)
    train_run(
        snakemake.params.settings,
        data=Path(snakemake.input.data).parent,
        folder=folder,
        log=log,
        sampling=Path(snakemake.input.sampling) if snakemake.input.sampling else None,
        device=snakemake.params.device,
        threads=snakemake.threads,
    )

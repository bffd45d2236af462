"""Compose one data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.data.synthesise import synthesise
from ncpipe.experiment.disk import check_room
from ncpipe.jobs import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

folder = Path(snakemake.output.manifest).parent
with job(snakemake.log[0]) as log:
    check_room(folder, snakemake.resources.disk_mb)
    synthesise(snakemake.params.spec, folder, log=log)

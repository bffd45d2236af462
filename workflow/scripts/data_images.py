"""Compose one data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.data.synthesise import synthesise
from ncpipe.jobs import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as log:
    synthesise(snakemake.params.spec, Path(snakemake.output.manifest).parent, log=log)

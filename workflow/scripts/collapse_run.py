"""Collapse metrics of one run."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.collapse.analyse import analyse_run
from ncpipe.jobs import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as log:
    analyse_run(
        Path(snakemake.input.run).parent, Path(snakemake.input.theory), Path(snakemake.output.manifest).parent, log
    )

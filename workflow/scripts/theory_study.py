"""One study of label distributions."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.jobs import job
from ncpipe.theory.studies import write_study

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as log:
    table = write_study(snakemake.wildcards.study, snakemake.params.settings, Path(snakemake.output.table))
    log.info("%d rows, %d of them certified", len(table), int(table["certified"].sum()))

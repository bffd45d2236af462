"""Draw a few samples of each label set of one data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.data.picture import draw_samples
from ncpipe.jobs import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    draw_samples(Path(snakemake.input.manifest).parent, Path(snakemake.output.picture))

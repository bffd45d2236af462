"""Draw one figure."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.figures.draw import draw
from ncpipe.jobs import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    draw(
        snakemake.params.figure,
        Path(snakemake.output.svg).with_suffix(""),
        settings=snakemake.params.settings,
        files={key: files for key, files in snakemake.input.items() if key != "modules"},
        names=snakemake.params.names,
    )

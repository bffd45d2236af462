"""Write the page."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.jobs import job
from ncpipe.report.page import write_page

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    write_page(
        Path(snakemake.output.page),
        claims=Path(snakemake.input.claims),
        rebalancing=Path(snakemake.input.rebalancing),
        figures=[Path(path) for path in snakemake.input.figures],
        captions=[Path(path) for path in snakemake.input.captions],
        manifests=[Path(path) for path in snakemake.input.manifests],
        config=snakemake.params.config,
    )

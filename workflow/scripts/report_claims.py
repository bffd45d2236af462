"""Decide every claim."""

from pathlib import Path
from typing import TYPE_CHECKING

from ncpipe.jobs import job
from ncpipe.report.claims import Tables, write_claims

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as log:
    tables = Tables.read(
        metrics=Path(snakemake.input.metrics),
        synthesis=Path(snakemake.input.synthesis),
        optimum=Path(snakemake.input.optimum),
        theory=[Path(path) for path in snakemake.input.theory],
        settings=snakemake.params.settings,
        objectives=snakemake.params.objectives,
        **{key: Path(path) for key, path in snakemake.input.items() if key.endswith("_study")},
    )
    for verdict in write_claims(tables, Path(snakemake.output.json), Path(snakemake.output.csv)):
        log.info("claim %s, %s: %s", verdict.claim, verdict.where, verdict.verdict)

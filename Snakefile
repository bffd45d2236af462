"""ncpipe: from images to a verdict on every claim about multi-label neural collapse.

snakemake                                       everything, ending in results/report/index.html
snakemake data | train | theory | studies | collapse | figures | report        up to one stage
snakemake --configfile config/smoke.yaml        another experiment (overlays merge over config.yaml)
snakemake --profile profiles/slurm              on a cluster
"""

from snakemake.utils import min_version

min_version("9.20")


configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/theory.smk"
include: "workflow/rules/collapse.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    data,
    train,
    theory,
    studies,
    collapse,
    figures,
    report,


rule all:
    """Everything."""
    default_target: True
    input:
        rules.data.input,
        rules.train.input,
        rules.theory.input,
        rules.studies.input,
        rules.collapse.input,
        rules.figures.input,
        rules.report.input,

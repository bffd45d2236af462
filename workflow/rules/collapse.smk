"""collapse: metrics of every checkpoint, and the tables that figures and verdicts are made from.

Needs: the stores of the train stage and the files of the theory stage.
Makes: {results}/collapse/{dataset}/{setting}/{network}/seed-{seed}/: metrics.zarr and, last, manifest.json;
{results}/collapse/metrics.csv, optimum.csv, synthesis.csv: tidy, over all runs and optima.
"""


rule collapse_run:
    """Collapse metrics of {wildcards.network} on {wildcards.setting} of {wildcards.dataset}, seed {wildcards.seed}."""
    input:
        run=rules.train_run.output.manifest,
        theory=theory_of_run,
        modules=code_of("collapse_run.py"),
    output:
        manifest=f"{RESULTS}/collapse/{RUN}/manifest.json",
    log:
        f"{RESULTS}/logs/collapse/{RUN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/collapse/{RUN}.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    script:
        "../scripts/collapse_run.py"


rule collapse_tables:
    """Tidy tables over all runs and certified optima."""
    input:
        runs=[f"{RESULTS}/collapse/{run.name}/manifest.json" for run in RUNS],
        theory=THEORY,
        modules=code_of("collapse_tables.py"),
    output:
        metrics=f"{RESULTS}/collapse/metrics.csv",
        optimum=f"{RESULTS}/collapse/optimum.csv",
        synthesis=f"{RESULTS}/collapse/synthesis.csv",
    log:
        f"{RESULTS}/logs/collapse/tables.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    script:
        "../scripts/collapse_tables.py"


rule collapse:
    """Metrics of all selected runs."""
    input:
        rules.collapse_tables.input.runs,
        rules.collapse_tables.output,

"""report: a verdict on every claim, and one page that shows everything.

Needs: tables, theory files, figures, training manifests.
Makes: {results}/report/claims.json, claims.csv, rebalancing.json, rebalancing.csv and index.html, which fetches nothing.
"""


rule report_claims:
    """Decide every claim by its written rule."""
    input:
        **study_tables("spectrum", "tagwise"),
        metrics=rules.collapse_tables.output.metrics,
        optimum=rules.collapse_tables.output.optimum,
        synthesis=rules.collapse_tables.output.synthesis,
        theory=THEORY,
        modules=code_of("report_claims.py"),
    output:
        json=f"{RESULTS}/report/claims.json",
        csv=report(
            f"{RESULTS}/report/claims.csv",
            caption="../report/claims.rst",
            category="Claims",
        ),
    log:
        f"{RESULTS}/logs/report/claims.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=config["settings"],
        objectives={
            name: network["objective"] for name, network in config["networks"].items()
        },
    script:
        "../scripts/report_claims.py"


rule report_rebalancing:
    """Runs with sampling weights beside those without, and beside what the labels promised."""
    input:
        metrics=rules.collapse_tables.output.metrics,
        optimum=rules.collapse_tables.output.optimum,
        weights=SAMPLING,
        modules=code_of("report_rebalancing.py"),
    output:
        json=f"{RESULTS}/report/rebalancing.json",
        csv=report(
            f"{RESULTS}/report/rebalancing.csv",
            caption="../report/rebalancing.rst",
            category="Rebalancing",
        ),
    log:
        f"{RESULTS}/logs/report/rebalancing.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=config["settings"],
        networks={
            name: {key: network[key] for key in ("architecture", "objective")}
            for name, network in config["networks"].items()
        },
    script:
        "../scripts/report_rebalancing.py"


rule report_page:
    """One self-contained page."""
    input:
        claims=rules.report_claims.output.json,
        rebalancing=rules.report_rebalancing.output.json,
        figures=[f"{figure}.svg" for figure in FIGURES],
        numbers=[f"{figure}.csv" for figure in FIGURES],
        captions=checkout_files("workflow/report/*.rst"),
        manifests=[f"{RESULTS}/train/{run.name}/manifest.json" for run in RUNS],
        modules=code_of("report_page.py", "ncpipe/report/templates/*"),
    output:
        page=f"{RESULTS}/report/index.html",
    log:
        f"{RESULTS}/logs/report/page.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        config=config,
    script:
        "../scripts/report_page.py"


rule report:
    """The page."""
    input:
        rules.report_page.output,
        rules.report_claims.output,
        rules.report_rebalancing.output,

"""figures: the paper's figures and ours, and the numbers behind each.

Needs: the tables of the collapse stage, the files of the theory stage.
Makes: {results}/figures/*.svg, *.png and, with the numbers drawn, *.csv.
"""

FIGURE_MODULES = code_of("figures_draw.py", "ncpipe/figures/*.mplstyle")


rule figures_dynamics:
    """Metrics over epochs, {wildcards.network}, {wildcards.variant} (the paper's figure 1)."""
    input:
        metrics=rules.collapse_tables.output.metrics,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/dynamics-{{network}}-{{variant}}.svg",
            caption="../report/dynamics.rst",
            category="Dynamics",
        ),
        png=f"{RESULTS}/figures/dynamics-{{network}}-{{variant}}.png",
        csv=f"{RESULTS}/figures/dynamics-{{network}}-{{variant}}.csv",
    log:
        f"{RESULTS}/logs/figures/dynamics-{{network}}-{{variant}}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="dynamics",
        settings=config["settings"],
        names=figure_names,
    script:
        "../scripts/figures_draw.py"


rule figures_final:
    """Metrics at the last epoch, {wildcards.network}, {wildcards.variant} (the paper's figure 3)."""
    input:
        metrics=rules.collapse_tables.output.metrics,
        optimum=rules.collapse_tables.output.optimum,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/final-{{network}}-{{variant}}.svg",
            caption="../report/final.rst",
            category="Last epoch",
        ),
        png=f"{RESULTS}/figures/final-{{network}}-{{variant}}.png",
        csv=f"{RESULTS}/figures/final-{{network}}-{{variant}}.csv",
    log:
        f"{RESULTS}/logs/figures/final-{{network}}-{{variant}}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="final",
        settings=config["settings"],
        names=figure_names,
    script:
        "../scripts/figures_draw.py"


rule figures_gap:
    """Objective and certified gap over epochs, {wildcards.network}."""
    input:
        metrics=rules.collapse_tables.output.metrics,
        theory=THEORY,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/gap-{{network}}.svg",
            caption="../report/gap.rst",
            category="Distance from the optimum",
        ),
        png=f"{RESULTS}/figures/gap-{{network}}.png",
        csv=f"{RESULTS}/figures/gap-{{network}}.csv",
    log:
        f"{RESULTS}/logs/figures/gap-{{network}}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="gap",
        settings=config["settings"],
        names=figure_names,
    script:
        "../scripts/figures_draw.py"


rule figures_bookkeeping:
    """NC1, NC2-H and NC3 of equal features, counted by definition and as Li et al. count."""
    input:
        **study_tables("ratios"),
        metrics=rules.collapse_tables.output.metrics,
        theory=THEORY,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/bookkeeping.svg",
            caption="../report/bookkeeping.rst",
            category="Readings of r",
        ),
        png=f"{RESULTS}/figures/bookkeeping.png",
        csv=f"{RESULTS}/figures/bookkeeping.csv",
    log:
        f"{RESULTS}/logs/figures/bookkeeping.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="bookkeeping",
        settings=config["settings"],
        names={"networks": trained_networks()},
    script:
        "../scripts/figures_draw.py"


rule figures_readings:
    """The three readings of r side by side, at the optimum and in networks."""
    input:
        **study_tables("ratios"),
        metrics=rules.collapse_tables.output.metrics,
        optimum=rules.collapse_tables.output.optimum,
        theory=THEORY,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/readings.svg",
            caption="../report/readings.rst",
            category="Readings of r",
        ),
        png=f"{RESULTS}/figures/readings.png",
        csv=f"{RESULTS}/figures/readings.csv",
    log:
        f"{RESULTS}/logs/figures/readings.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="readings",
        settings=config["settings"],
        names={"networks": trained_networks()},
    script:
        "../scripts/figures_draw.py"


rule figures_spectrum:
    """Label covariance spectrum of each setting, with its weakest contrast named."""
    input:
        theory=THEORY,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/spectrum.svg",
            caption="../report/spectrum.rst",
            category="Label covariance spectrum",
        ),
        png=f"{RESULTS}/figures/spectrum.png",
        csv=f"{RESULTS}/figures/spectrum.csv",
    log:
        f"{RESULTS}/logs/figures/spectrum.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="spectrum",
        settings=config["settings"],
        names={},
    script:
        "../scripts/figures_draw.py"


rule figures_synthesis:
    """Residuals of every hypothesis on synthesis by basis, {wildcards.network} beside the optimum."""
    input:
        synthesis=rules.collapse_tables.output.synthesis,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/synthesis-{{network}}.svg",
            caption="../report/synthesis.rst",
            category="Synthesis",
        ),
        png=f"{RESULTS}/figures/synthesis-{{network}}.png",
        csv=f"{RESULTS}/figures/synthesis-{{network}}.csv",
    log:
        f"{RESULTS}/logs/figures/synthesis-{{network}}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="synthesis",
        settings=config["settings"],
        names=figure_names,
    script:
        "../scripts/figures_draw.py"


rule figures_exponents:
    """Frequency exponent of synthesis with its interval by basis, {wildcards.network} beside the optimum."""
    input:
        synthesis=rules.collapse_tables.output.synthesis,
        modules=FIGURE_MODULES,
    output:
        svg=report(
            f"{RESULTS}/figures/exponents-{{network}}.svg",
            caption="../report/exponents.rst",
            category="Synthesis",
        ),
        png=f"{RESULTS}/figures/exponents-{{network}}.png",
        csv=f"{RESULTS}/figures/exponents-{{network}}.csv",
    log:
        f"{RESULTS}/logs/figures/exponents-{{network}}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        figure="exponents",
        settings=config["settings"],
        names=figure_names,
    script:
        "../scripts/figures_draw.py"


# One rule for each study: the path of a caption has no wildcards.
for study in STUDIES:

    rule:
        """Figure of one study of label distributions."""
        name:
            f"figures_study_{study}"
        input:
            **study_tables(study),
            modules=FIGURE_MODULES,
        output:
            svg=report(
                f"{RESULTS}/figures/study-{study}.svg",
                caption=f"../report/study-{study}.rst",
                category="Studies of label distributions",
            ),
            png=f"{RESULTS}/figures/study-{study}.png",
            csv=f"{RESULTS}/figures/study-{study}.csv",
        log:
            f"{RESULTS}/logs/figures/study-{study}.log",
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
        params:
            figure=f"study-{study}",
            settings=config["settings"],
            names={},
        script:
            "../scripts/figures_draw.py"


rule figures:
    """All figures."""
    input:
        [f"{figure}.{kind}" for figure in FIGURES for kind in ("svg", "png", "csv")],

"""figures: the paper's figures and ours, and the numbers behind each.

Needs: the tables of the collapse stage, the files of the theory stage.
Makes: {results}/figures/*.svg, *.png and, with the numbers drawn, *.csv, for each line of ncpipe.figures.catalogue.
"""

FIGURE_MODULES = code_of("figures_draw.py", "ncpipe/figures/*.mplstyle")
FIGURE_TABLES = {
    "metrics": rules.collapse_tables.output.metrics,
    "optimum": rules.collapse_tables.output.optimum,
    "synthesis": rules.collapse_tables.output.synthesis,
    "theory": THEORY,
    **study_tables(*STUDIES),
}

for figure in catalogue.figures_of_run(STUDIES):

    rule:
        """A figure of the catalogue: caption and category say what it shows."""
        name:
            f"figures_{figure.name.replace('-', '_')}"
        input:
            **{t: FIGURE_TABLES[t] for t in figure.tables if t in FIGURE_TABLES},
            modules=FIGURE_MODULES,
        output:
            svg=report(
                f"{RESULTS}/figures/{figure.pattern}.svg",
                caption=f"../report/{figure.name}.rst",
                category=figure.category,
            ),
            png=f"{RESULTS}/figures/{figure.pattern}.png",
            csv=f"{RESULTS}/figures/{figure.pattern}.csv",
        log:
            f"{RESULTS}/logs/figures/{figure.pattern}.log",
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
        params:
            figure=figure.name,
            settings=config["settings"],
            names=FIGURE_NAMES.get(figure.per, figure_names),
        script:
            "../scripts/figures_draw.py"


rule figures:
    """All figures."""
    input:
        [f"{stem}.{kind}" for stem in FIGURES for kind in ("svg", "png", "csv")],

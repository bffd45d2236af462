"""theory: what follows from the labels alone, before and without any training.

Needs: label counts and objectives, from the configuration.
Makes: {results}/theory/{dataset}/{setting}/{objective}.json: spectrum, certified optima, bounds, thresholds, synthesis;
{results}/theory/{dataset}/{setting}/sampling/{target}.json: the weights of a setting with `sampling`;
{results}/theory/studies/{study}.csv: one tidy table for each selected study, every row with its certificate.
"""


rule theory_sampling:
    """Sampling weights of {wildcards.setting} of {wildcards.dataset}, {wildcards.target} targets."""
    input:
        modules=code_of("theory_sampling.py"),
    output:
        weights=f"{RESULTS}/theory/{{dataset}}/{{setting}}/sampling/{{target}}.json",
    log:
        f"{RESULTS}/logs/theory/{{dataset}}/{{setting}}/sampling/{{target}}.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        counts=label_counts,
        class_names=class_names,
        sampling=setting_sampling,
    script:
        "../scripts/theory_sampling.py"


rule theory_optimum:
    """Spectrum and certified optimum of {wildcards.setting} of {wildcards.dataset} under {wildcards.objective}."""
    input:
        sampling=sampling_of_theory,
        modules=code_of("theory_optimum.py"),
    output:
        theory=f"{RESULTS}/theory/{{dataset}}/{{setting}}/{{objective}}.json",
    log:
        f"{RESULTS}/logs/theory/{{dataset}}/{{setting}}/{{objective}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/theory/{{dataset}}/{{setting}}/{{objective}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        counts=label_counts,
        class_names=class_names,
        objective=objective_entry,
    script:
        "../scripts/theory_optimum.py"


rule theory:
    """Theory of every label distribution that a selected run has."""
    input:
        THEORY,


rule theory_study:
    """Study {wildcards.study} of label distributions."""
    input:
        modules=code_of("theory_study.py"),
    output:
        table=f"{RESULTS}/theory/studies/{{study}}.csv",
    log:
        f"{RESULTS}/logs/theory/studies/{{study}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/theory/studies/{{study}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=study_settings,
    script:
        "../scripts/theory_study.py"


rule studies:
    """All selected studies of label distributions."""
    input:
        expand(rules.theory_study.output.table, study=STUDIES),

"""train: networks trained on settings of data sets, features checkpointed.

Needs: {results}/data/{dataset}/manifest.json and the store beside it; for a setting with `sampling`, its weights.
Makes: {results}/train/{dataset}/{setting}/{network}/seed-{seed}/: features.zarr, history.csv, the resume state and,
last, manifest.json. Only the manifest is declared: Snakemake deletes declared outputs when a job fails, and the rest
is what the next attempt goes on from.
"""


rule train_run:
    """Train {wildcards.network} on {wildcards.setting} of {wildcards.dataset}, seed {wildcards.seed}, from its own state."""
    input:
        data=rules.data_images.output.manifest,
        sampling=sampling_of_run,
    output:
        manifest=f"{RESULTS}/train/{RUN}/manifest.json",
    log:
        f"{RESULTS}/logs/train/{RUN}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{RUN}.tsv"
    threads: 1
    resources:
        gpu=0,
        mem_mb=3000,
        disk_mb=train_disk_mb,
        runtime=240,
    params:
        settings=train_settings,
        version=TRAIN_VERSION,
        device=config["device"],
    script:
        "../scripts/train_run.py"


rule train:
    """All selected runs."""
    input:
        [f"{RESULTS}/train/{run.name}/manifest.json" for run in RUNS],

"""data: base images composed into multi-label data sets.

Needs: base images (bundled with a package, or in the folder that the configuration names).
Makes: {results}/data/{dataset}/images.zarr and its manifest, and a picture of a few samples of each label set.
"""

from ncpipe.data import DATA_VERSION


rule data_images:
    """Compose the balanced image store of data set {wildcards.dataset}."""
    output:
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/images.log",
    benchmark:
        f"{RESULTS}/benchmarks/data/{{dataset}}/images.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        disk_mb=data_disk_mb,
        runtime=30,
    params:
        spec=data_spec,
        version=DATA_VERSION,
    script:
        "../scripts/data_images.py"


rule data_picture:
    """Draw a few samples of each label set of data set {wildcards.dataset}."""
    input:
        manifest=rules.data_images.output.manifest,
    output:
        picture=f"{RESULTS}/data/{{dataset}}/samples.png",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/picture.log",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    script:
        "../scripts/data_picture.py"


rule data:
    """All data sets of the selected runs."""
    input:
        expand(rules.data_images.output.manifest, dataset=DATASETS),
        expand(rules.data_picture.output.picture, dataset=DATASETS),

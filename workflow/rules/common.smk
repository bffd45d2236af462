"""Names shared by all rules: the checked configuration, its runs, and functions of wildcards.

Needs: config.yaml and its overlays, merged by Snakemake.
Makes: nothing; ends with exit code 1 and one line per fault where the configuration is wrong.
"""

import sys
from functools import cache
from pathlib import Path

from ncpipe.errors import ConfigError
from ncpipe.experiment import base_sets, disk, plan, reading
from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.experiment.code import reachable_modules
from ncpipe.figures import catalogue
from ncpipe.jobs import name_user
from ncpipe.results import layout
from ncpipe.train import TRAIN_VERSION

name_user()
CHECKOUT = Path(workflow.basedir)

try:
    # Snakemake has read the files, but of a key that stands twice it tells nothing, and it leaves --config as text.
    reading.refuse_duplicate_keys(workflow.configfiles)
    reading.merge(config, reading.typed(workflow.config_settings.config))
    reading.check(config)
except ConfigError as error:
    print(
        "The configuration cannot be used:",
        *(f"  {line}" for line in error.problems),
        sep="\n",
        file=sys.stderr,
    )
    sys.exit(1)


def sampling_files(dataset, setting, objective):
    """The file of sampling weights of a setting, or none."""
    target = plan.sampling_target(config, setting, objective)
    return [] if target is None else [LAYOUT.sampling(dataset, setting, target)]


RESULTS = config["results"]
LAYOUT = layout.Layout(RESULTS)
RUNS = plan.plan_runs(config)
DATASETS = list(dict.fromkeys(run.dataset for run in RUNS))
THEORY = [LAYOUT.theory(*names) for names in plan.plan_theory(config)]
SAMPLING = list(
    dict.fromkeys(
        path for names in plan.plan_theory(config) for path in sampling_files(*names)
    )
)
NETWORKS = list(dict.fromkeys(run.network for run in RUNS))
STUDIES = plan.plan_studies(config)
TRAINED = [
    name
    for name in NETWORKS
    if not ARCHITECTURES[config["networks"][name]["architecture"]].free
]
FIGURES = [  # without their endings
    LAYOUT.figure(stem) for stem in catalogue.figure_stems(NETWORKS, TRAINED, STUDIES)
]
# What a figure without wildcards is drawn for.
FIGURE_NAMES = {
    "once": {},
    "study": {},
    "trained networks": {
        "networks": {name: config["networks"][name]["objective"] for name in TRAINED}
    },
}
RUN = layout.RUN

if workflow.is_main_process:
    need = disk.disk_need(config, RUNS, LAYOUT.manifest, TRAIN_VERSION)
    if need:
        print(
            disk.disk_line(need, disk.free_bytes(Path(RESULTS)), RESULTS),
            file=sys.stderr,
        )


wildcard_constraints:
    dataset="[^/]+",
    setting="[^/]+",
    network="[^/]+",
    objective="[^/]+",
    seed="[0-9]+",
    target="normalised|raw",
    variant="definition|li2024",
    study="[a-z]+",


def data_spec(wildcards):
    """What a data set depends on."""
    return plan.data_spec(config, wildcards.dataset)


def run_of(wildcards):
    """The run that wildcards name."""
    return plan.Run(
        wildcards.dataset, wildcards.setting, wildcards.network, int(wildcards.seed)
    )


def data_disk_mb(wildcards):
    """Megabytes that a data set takes at most."""
    return disk.megabytes(disk.dataset_bytes(config["datasets"][wildcards.dataset]))


@cache
def largest_run_mb(dataset, setting, network):
    """Megabytes that each of the runs of a network takes at most, whatever its seed."""
    run = plan.Run(dataset, setting, network, 0)
    return disk.megabytes(disk.run_bytes(config, run))


def train_disk_mb(wildcards):
    """Megabytes that a run and its metrics take at most."""
    return largest_run_mb(wildcards.dataset, wildcards.setting, wildcards.network)


def train_settings(wildcards):
    """What a run depends on, its data set apart."""
    return plan.train_settings(config, run_of(wildcards))


def label_counts(wildcards):
    """Samples of every label set of a setting."""
    return plan.setting_counts(
        config["datasets"][wildcards.dataset], config["settings"][wildcards.setting]
    )


def class_names(wildcards):
    """Names of a data set's classes."""
    return list(
        base_sets.BASE_SETS[config["datasets"][wildcards.dataset]["base"]].class_names
    )


def objective_entry(wildcards):
    """Settings of a terminal objective, as a setting has them."""
    return plan.objective_entry(
        config, wildcards.dataset, wildcards.setting, wildcards.objective
    )


def study_settings(wildcards):
    """What a study depends on."""
    return plan.study_settings(config, wildcards.study)


def study_tables(*names):
    """Tables of those of the studies that are selected, as named inputs."""
    return {f"{name}_study": LAYOUT.study(name) for name in names if name in STUDIES}


def theory_of_run(wildcards):
    """The theory file that a run is measured against."""
    objective = config["networks"][wildcards.network]["objective"]
    return LAYOUT.theory(wildcards.dataset, wildcards.setting, objective)


def setting_sampling(wildcards):
    """How a setting weights its label sets."""
    return plan.setting_sampling(config["settings"][wildcards.setting])


def one_or_none(paths):
    """The only path, as a named input that a script reads like any other, or an empty one."""
    return paths[0] if paths else []


def sampling_of_theory(wildcards):
    """The sampling weights that a theory file is about, or nothing."""
    return one_or_none(
        sampling_files(wildcards.dataset, wildcards.setting, wildcards.objective)
    )


def sampling_of_run(wildcards):
    """The sampling weights that a run is trained with, or nothing."""
    objective = config["networks"][wildcards.network]["objective"]
    return one_or_none(sampling_files(wildcards.dataset, wildcards.setting, objective))


def figure_names(wildcards):
    """What a figure is drawn for."""
    return {
        **wildcards,
        "objective": config["networks"][wildcards.network]["objective"],
    }


def checkout_files(*patterns):
    """Files of the checkout; relative where Snakemake runs in it, so that a moved checkout is no change."""
    checkout = Path() if Path.cwd() == CHECKOUT else CHECKOUT
    return sorted(str(path) for pattern in patterns for path in checkout.glob(pattern))


def code_of(script, *data):
    """Modules of the package that a script imports, directly or not, and package data: inputs of its rule."""
    modules = reachable_modules(
        CHECKOUT / "workflow/scripts" / script, CHECKOUT / "src"
    )
    return checkout_files(*(f"src/{path}" for path in [*modules, *data]))

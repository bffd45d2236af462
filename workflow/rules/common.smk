"""Names shared by all rules: the checked configuration, its runs, and functions of wildcards.

Needs: config.yaml and its overlays, merged by Snakemake.
Makes: nothing; ends with exit code 1 and one line per fault where the configuration is wrong.
"""

import sys
from pathlib import Path

import yaml

from ncpipe import config as plan
from ncpipe.errors import ConfigError

CHECKOUT = Path(workflow.basedir)

try:
    plan.check(
        config,
        yaml.safe_load((CHECKOUT / "workflow/schemas/config.schema.yaml").read_text()),
    )
except ConfigError as error:
    print(
        "The configuration cannot be used:",
        *(f"  {line}" for line in error.problems),
        sep="\n",
        file=sys.stderr,
    )
    sys.exit(1)

RESULTS = config["results"]
RUNS = plan.plan_runs(config)
DATASETS = list(dict.fromkeys(run.dataset for run in RUNS))
THEORY = list(
    dict.fromkeys(
        f"{RESULTS}/theory/{run.dataset}/{run.setting}/{config['networks'][run.network]['objective']}.json"
        for run in RUNS
    )
)
RUN = "{dataset}/{setting}/{network}/seed-{seed}"


wildcard_constraints:
    dataset="[^/]+",
    setting="[^/]+",
    network="[^/]+",
    objective="[^/]+",
    seed="[0-9]+",


def data_spec(wildcards):
    """What a data set depends on."""
    return plan.data_spec(config, wildcards.dataset)


def train_settings(wildcards):
    """What a run depends on, its data set apart."""
    run = plan.Run(
        wildcards.dataset, wildcards.setting, wildcards.network, int(wildcards.seed)
    )
    return plan.train_settings(config, run)


def theory_spec(wildcards):
    """What a theory file depends on."""
    return plan.theory_spec(
        config, wildcards.dataset, wildcards.setting, wildcards.objective
    )


def theory_of_run(wildcards):
    """The theory file that a run is measured against."""
    objective = config["networks"][wildcards.network]["objective"]
    return f"{RESULTS}/theory/{wildcards.dataset}/{wildcards.setting}/{objective}.json"


def package_modules(*parts):
    """Modules of the package that a cheap stage is made by: a change of them is a change of its input."""
    return sorted(
        str(path) for part in parts for path in (CHECKOUT / "src/ncpipe").glob(part)
    )

"""Where everything lies in a results folder, and what the parts of a path say: the only place that knows either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

# Names inside the folder of a data set, run or analysis.
MANIFEST = "manifest.json"
IMAGES = "images.zarr"  # of a data set
FEATURES = "features.zarr"  # of a run
STATE = "state/state.npz"
HISTORY = "history.csv"
DIVERGENCE = "divergence.json"
SUPERSEDED = "superseded"  # the run that another takes the place of, until that one is finished
METRICS = "metrics.zarr"  # of an analysis

RUN = "{dataset}/{setting}/{network}/seed-{seed}"  # the folder of a run below its stage
# Stages whose results are folders with a manifest, and how deep these lie below the stage.
MANIFEST_STAGES = {"data": 1, "train": 4, "collapse": 4}
STAGES = ("data", "theory", "train", "collapse", "figures", "report")


@dataclass(frozen=True)
class Layout:
    """The paths of a results folder as text, of names or of Snakemake's wildcards that stand for them.

    Parameters
    ----------
    root : str or Path
        The results folder; empty: paths are relative to it.

    Examples
    --------
    >>> Layout("results").theory("mlab_digits", "balanced", "pal")
    'results/theory/mlab_digits/balanced/pal.json'
    >>> Layout().table("metrics")
    'collapse/metrics.csv'
    """

    root: str | Path = ""

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if str(self.root) else name

    def folder(self, stage: str, name: str = "") -> str:
        """The folder of a stage, or that of one of its data sets (``dataset``) or runs (`RUN`)."""
        return self._at(f"{stage}/{name}" if name else stage)

    def manifest(self, stage: str, name: str) -> str:
        """What says that a data set, run or analysis is finished, written last."""
        return f"{self.folder(stage, name)}/{MANIFEST}"

    def picture(self, dataset: str) -> str:
        """A few samples of each label set of a data set."""
        return f"{self.folder('data', dataset)}/samples.png"

    def theory(self, dataset: str, setting: str, objective: str) -> str:
        """The theory file of a label distribution under an objective."""
        return self._at(f"theory/{dataset}/{setting}/{objective}.json")

    def sampling(self, dataset: str, setting: str, target: str) -> str:
        """The sampling weights of a setting for a target."""
        return self._at(f"theory/{dataset}/{setting}/sampling/{target}.json")

    def study(self, name: str) -> str:
        """The table of a study."""
        return self._at(f"theory/studies/{name}.csv")

    def table(self, name: str) -> str:
        """A tidy table of the collapse stage: ``metrics``, ``optimum`` or ``synthesis``."""
        return self._at(f"collapse/{name}.csv")

    def figure(self, name: str, ending: str = "") -> str:
        """A figure, or the numbers behind it: ending ``.svg``, ``.png`` or ``.csv``."""
        return self._at(f"figures/{name}{ending}")

    def report(self, name: str) -> str:
        """A file of the report: ``index.html``, ``claims.json`` and the like."""
        return self._at(f"report/{name}")

    def log(self, stage: str, name: str) -> str:
        """The log of a job of a stage."""
        return self._at(f"logs/{stage}/{name}.log")

    def benchmark(self, stage: str, name: str) -> str:
        """Wall time and memory of a job of a stage."""
        return self._at(f"benchmarks/{stage}/{name}.tsv")


def theory_names(path: PurePath) -> tuple[str, str, str]:
    """Data set, setting and objective that a theory file's path names."""
    dataset, setting = path.parts[-3:-1]
    return dataset, setting, path.stem


def sampling_names(path: PurePath) -> tuple[str, str, str]:
    """Data set, setting and target that the path of a file of sampling weights names."""
    dataset, setting = path.parts[-4:-2]
    return dataset, setting, path.stem

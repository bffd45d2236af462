"""What the figures on r share: rows of optima and networks with the labels behind them, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import log_axis, looks, note, present, setting_handles
from ncpipe.results.tables import last_epoch, metric_rows, over_seeds
from ncpipe.results.theory_file import Theory, TheoryKey

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Theories = Mapping[TheoryKey, Theory]


COUNTED = ("nc1", "nc2_h", "nc3")  # the metrics that have variants


REFERENCES = {"convex": "certified optimum", "relu": "optimum with features ≥ 0"}


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "definition": ("definition", {"ls": "-", "marker": "o", "mfc": None}),
    "li2024": ("as Li et al. count", {"ls": "--", "marker": "s", "mfc": "white"}),
}


PLACES = ["part", "dataset", "network", "setting", "profile", "ratio", "reference", "metric", "variant"]


NUMBERS = ["value", "low", "high", "seeds", "samples", "share_single"]


NC1_AT_OPTIMA = "0 at every optimum,\nwhatever r is"


def _labels(theory: Theories, dataset: str, setting: str) -> tuple[float, float]:
    """Samples of a setting and the share of multiplicity one among them; NaN where no theory file has it."""
    for key, entry in theory.items():
        if key[:2] == (dataset, setting):
            counts, single = entry.natural.counts, entry.natural.multiplicity == 1
            return float(counts.sum()), float(counts[single].sum() / counts.sum())
    return float("nan"), float("nan")


def study_rows(ratios: pd.DataFrame | None, quantities: Sequence[str]) -> pd.DataFrame:
    """Rows of the study ``ratios`` as rows of a figure; none without the study."""
    columns = [*PLACES, *NUMBERS]
    if ratios is None:
        return pd.DataFrame(columns=columns)
    share = ratios.loc[ratios["quantity"] == "share_single"].set_index(["profile", "ratio"])["value"]
    rows = ratios.loc[ratios["quantity"].isin(quantities)].rename(columns={"quantity": "metric"})
    keys = pd.MultiIndex.from_frame(rows[["profile", "ratio"]])
    rows = rows.assign(part="optimum", share_single=share.reindex(keys).to_numpy(), low=np.nan, high=np.nan)
    return rows.reindex(columns=columns).sort_values(
        ["reference", "metric", "variant", "profile", "ratio"], kind="stable", ignore_index=True
    )


def network_rows(
    metrics: pd.DataFrame,
    theory: Theories,
    settings: Mapping[str, Setting],
    networks: Sequence[str],
    wanted: Sequence[tuple[str, str]],
) -> pd.DataFrame:
    """Metrics at the last epoch over seeds, settings without a control, as rows of a figure."""
    chosen = [
        metric_rows(metrics, metric, variant=variant).assign(variant=variant if metric in COUNTED else "")
        for metric, variant in wanted
    ]
    rows = pd.concat(chosen)
    rows = rows.loc[rows["network"].isin(networks)]
    shown = present(settings, rows, controls=False)
    rows = rows.loc[rows["setting"].isin([s.name for s in shown])]
    if rows.empty:
        return pd.DataFrame(columns=[*PLACES, *NUMBERS])
    found = over_seeds(last_epoch(rows), ["dataset", "network", "setting", "metric", "variant"])
    labels = [_labels(theory, *key) for key in found[["dataset", "setting"]].itertuples(index=False, name=None)]
    found = found.assign(
        part="networks",
        reference="",
        profile=[settings[name].profile for name in found["setting"]],
        ratio=[settings[name].ratio for name in found["setting"]],
        samples=[samples for samples, _ in labels],
        share_single=[share for _, share in labels],
    )
    return found.reindex(columns=[*PLACES, *NUMBERS])


def joined(optima: pd.DataFrame, trained: pd.DataFrame) -> pd.DataFrame:
    """Both parts as one table; an empty one has no types to give."""
    parts = [part for part in (optima, trained) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else optima.reset_index(drop=True)


def whiskers(axis: Axes, x: float, values: pd.DataFrame, key: Any, look: Mapping[str, Any]) -> None:
    """A mark with its interval over seeds, as far as there are any."""
    if key not in values.index or not np.isfinite(values.loc[key, "value"]):
        return
    row = values.loc[key]
    if np.isfinite(row["low"]):
        axis.plot([x, x], [row["low"], row["high"]], color=look["color"], lw=1.1, solid_capstyle="butt")
    axis.plot(x, row["value"], ls="", mec=look["color"], ms=4.4, clip_on=False, zorder=3, **look)


def categories(axis: Axes, names: Sequence[str]) -> None:
    """Name the places 0, 1, ... of the horizontal axis."""
    axis.set_xticks(range(len(names)), names)
    axis.tick_params(axis="x", length=0)
    axis.grid(visible=False, axis="x")
    axis.set_xlim(-0.6, len(names) - 0.4)


def filled(look: Mapping[str, Any]) -> dict[str, Any]:
    """Return a look without the entries that it leaves to matplotlib."""
    return {key: value for key, value in look.items() if value is not None}


def patches(shown: Sequence[Setting], settings: Mapping[str, Setting]) -> list[Any]:
    """Legend entries of settings as patches of their colours."""
    return setting_handles(shown, looks(settings), line=False)


def empty_panel(axis: Axes, text: str) -> None:
    """A panel without axes that says why it is empty."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    note(axis, text)


def value_axis(axis: Axes, metric: str, values: pd.Series) -> None:
    """NC1 runs over orders of magnitude, the others start at 0."""
    if values.isna().all():
        note(axis, "not defined in this run")
    elif metric == "nc1":
        log_axis(axis, values)
    else:
        axis.set_ylim(bottom=0)

"""The three readings of r side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.imbalance_marks import (
    NC1_AT_OPTIMA,
    NUMBERS,
    PLACES,
    REFERENCES,
    Theories,
    categories,
    empty_panel,
    joined,
    network_rows,
    study_rows,
    value_axis,
    whiskers,
)
from ncpipe.figures.style import (
    BALANCED,
    MARKERS,
    OPTIMUM_LABELS,
    OPTIMUM_MARKERS,
    PROFILES,
    REFERENCE,
    legend,
    panels,
    ratio_axis,
)
from ncpipe.results.tables import COLLAPSE_METRICS, METRIC_LABELS, metric_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEW_TICKS = 4  # on the ratio axis of a narrow panel


def readings(
    metrics: pd.DataFrame,
    optimum: pd.DataFrame,
    theory: Theories,
    ratios: pd.DataFrame | None,
    settings: Mapping[str, Setting],
    *,
    networks: Mapping[str, str],
) -> tuple[Figure, pd.DataFrame]:
    """Draw the five metrics for the three readings of r: at the optima over r, and in networks at the last epoch.

    A network has its row where it was trained on two readings at least; the number of samples stands below r, since the
    readings are comparable where it is equal, not where r is.

    Parameters
    ----------
    metrics, optimum : DataFrame
        ``metrics.csv`` and ``optimum.csv``.
    theory : mapping
        Of (data set, setting, objective) to the theory stage's results.
    ratios : DataFrame or None
        ``theory/studies/ratios.csv``; without it the curves over r are left out.
    settings : mapping of str to Setting
    networks : mapping
        Of the networks to draw to their objectives.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn, with the columns of `bookkeeping`; part "marks" is the optimum at the settings of networks.
    """
    optima = study_rows(ratios, COLLAPSE_METRICS)
    optima = optima.loc[optima["variant"].isin(["", "definition"])]
    trained = network_rows(metrics, theory, settings, list(networks), [(m, "definition") for m in COLLAPSE_METRICS])
    trained = trained.loc[trained["profile"].isin(["balanced", *PROFILES])]
    places, without = [], []
    for (dataset, network), rows in trained.groupby(["dataset", "network"], sort=False):
        found = sorted(set(rows["profile"]) - {"balanced"})
        if len(found) > 1:
            places.append((str(dataset), str(network)))
        else:
            without.append(f"{network} on {dataset} ({found[0] if found else 'balanced'} only)")
    keys = pd.MultiIndex.from_frame(trained[["dataset", "network"]])
    trained = trained.loc[keys.isin(places)]
    marks = _marks(optimum, trained, networks)
    drawn = joined(optima, joined(trained, marks))
    references = [reference for reference in REFERENCES if optima["reference"].eq(reference).any()]
    from matplotlib.lines import Line2D

    figure, axes = panels(max(1, len(references) + len(places)), len(COLLAPSE_METRICS), width=2.0, height=1.75)
    for axis, metric in zip(axes[0], COLLAPSE_METRICS, strict=True):
        axis.set_title(METRIC_LABELS[metric])
    for row, reference in zip(axes, references, strict=False):
        here = optima[optima["reference"] == reference]
        row[0].set_ylabel(REFERENCES[reference])
        for axis, metric in zip(row, COLLAPSE_METRICS, strict=True):
            if metric == "nc1":
                empty_panel(axis, NC1_AT_OPTIMA)
                continue
            for marker, (profile, colour) in zip(MARKERS[1:], PROFILES.items(), strict=False):
                curve = here[(here["metric"] == metric) & (here["profile"] == profile)]
                axis.plot(curve["ratio"], curve["value"], color=colour, marker=marker, ms=3.4, clip_on=False)
            ratio_axis(axis, here["ratio"], most=_FEW_TICKS)
            axis.set_ylim(bottom=0)
            axis.set_xlabel("r")
    order = {name: i for i, name in enumerate(("balanced", *PROFILES))}
    for row, (dataset, network) in zip(axes[len(references) :], places, strict=False):
        here = trained[(trained["dataset"] == dataset) & (trained["network"] == network)]
        own = sorted(set(here["setting"]), key=lambda s: (order[settings[s].profile], -settings[s].ratio))
        samples = dict(zip(here["setting"], here["samples"], strict=True))
        row[0].set_ylabel(f"{network}, {dataset}")
        for axis, metric in zip(row, COLLAPSE_METRICS, strict=True):
            values = here[here["metric"] == metric].set_index("setting")
            beside = marks[(marks["dataset"] == dataset) & (marks["network"] == network)]
            beside = beside[beside["metric"] == metric]
            for x, name in enumerate(own):
                i = order[settings[name].profile]
                colour = (BALANCED, *PROFILES.values())[i]
                whiskers(axis, x, values, name, {"color": colour, "marker": MARKERS[i]})
                for reference in REFERENCES:
                    for value in beside.loc[(beside["setting"] == name) & (beside["reference"] == reference), "value"]:
                        if metric != "nc1":
                            axis.plot(x, value, ls="", zorder=2, clip_on=False, **OPTIMUM_MARKERS[reference])
            categories(axis, [f"{settings[name].ratio:g}\n{samples[name]:.0f}" for name in own])
            value_axis(axis, metric, values["value"])
            axis.set_xlabel("r; below it, samples")
    said = [] if references else ["no optima over r: the study “ratios” was not selected"]
    said += [f"one reading of r only: {', '.join(without)}"] if without else []
    if said:
        figure.supxlabel("; ".join(said), fontsize=7.5, color=REFERENCE)
    if drawn.empty:
        for axis in axes[0]:
            empty_panel(axis, "one reading only")
    handles = [
        Line2D([], [], color=colour, marker=MARKERS[i], ms=4, label=label)
        for i, (label, colour) in enumerate({"balanced": BALANCED, **PROFILES}.items())
    ]
    if places:
        handles += [Line2D([], [], ls="", label=OPTIMUM_LABELS[name], **look) for name, look in OPTIMUM_MARKERS.items()]
    legend(figure, handles)
    return figure, drawn


def _marks(optimum: pd.DataFrame, trained: pd.DataFrame, networks: Mapping[str, str]) -> pd.DataFrame:
    """The metrics at the optima of the settings that networks are drawn at."""
    rows = pd.concat(metric_rows(optimum, metric) for metric in COLLAPSE_METRICS)
    rows = rows[["dataset", "setting", "objective", "reference", "metric", "value"]]
    places = trained.drop(columns=["reference", "value", "low", "high", "seeds"])
    places = places.assign(part="marks", objective=[networks[name] for name in places["network"]])
    found = places.merge(rows, on=["dataset", "setting", "objective", "metric"], how="inner")
    return found.reindex(columns=[*PLACES, *NUMBERS])

"""What counting alone does to the metrics when r moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.imbalance_marks import (
    COUNTED,
    NC1_AT_OPTIMA,
    REFERENCES,
    VARIANTS,
    Theories,
    categories,
    empty_panel,
    filled,
    joined,
    network_rows,
    patches,
    study_rows,
    value_axis,
    whiskers,
)
from ncpipe.figures.style import BALANCED, REFERENCE, legend, looks, panels, present, ratio_axis
from ncpipe.results.tables import METRIC_LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RECOUNTED: tuple[str, dict[str, Any]] = (
    "balanced optimum, counted so at r",
    {"color": REFERENCE, "ls": ":", "marker": "^", "mfc": "white"},
)


def bookkeeping(
    metrics: pd.DataFrame,
    theory: Theories,
    ratios: pd.DataFrame | None,
    settings: Mapping[str, Setting],
    *,
    networks: Mapping[str, str],
) -> tuple[Figure, pd.DataFrame]:
    """Draw NC1, NC2-H and NC3 of the same features counted in two ways: by definition and as the code of Li et al.

    Li's global mean is the sum of the features of multiplicity one over the count of *all* samples: the share of
    multiplicity one, which falls with r, times their mean. At the optima, over r of the step profile, the share stands
    below r; a dotted line keeps the features of the balanced optimum and moves the counts alone. In networks, at the
    last epoch, it stands below each setting.

    Parameters
    ----------
    metrics : DataFrame
        ``metrics.csv``.
    theory : mapping
        Of (data set, setting, objective) to the theory stage's results.
    ratios : DataFrame or None
        ``theory/studies/ratios.csv``; without it the optima are left out.
    settings : mapping of str to Setting
    networks : mapping
        Of the networks to draw, those that the table has, to their objectives.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: part ("optimum", "networks"), dataset, network, setting, profile, ratio, reference, metric
        ("nc3_of_balanced" is the dotted line), variant, value (mean over seeds), low, high, seeds, samples,
        share_single (the factor on the mean).
    """
    optima = study_rows(ratios, ["nc2_h", "nc3", "nc3_of_balanced"])
    optima = optima.loc[optima["profile"] == "step"]
    wanted = [(metric, variant) for metric in COUNTED for variant in VARIANTS]
    trained = network_rows(metrics, theory, settings, list(networks), wanted)
    drawn = joined(optima, trained)
    references = [reference for reference in REFERENCES if optima["reference"].eq(reference).any()]
    places = list(dict.fromkeys(trained[["dataset", "network"]].itertuples(index=False, name=None)))
    shown = present(settings, trained, controls=False) if len(trained) else []
    styles = looks(settings)
    from matplotlib.lines import Line2D

    figure, axes = panels(max(1, len(references) + len(places)), len(COUNTED), width=2.75, height=1.75)
    for axis, metric in zip(axes[0], COUNTED, strict=True):
        axis.set_title(METRIC_LABELS[metric])
    for row, reference in zip(axes, references, strict=False):
        here = optima[optima["reference"] == reference]
        row[0].set_ylabel(REFERENCES[reference])
        empty_panel(row[0], NC1_AT_OPTIMA)
        for axis, metric in zip(row[1:], COUNTED[1:], strict=True):
            for variant, (_, look) in VARIANTS.items():
                curve = here[(here["metric"] == metric) & (here["variant"] == variant)]
                axis.plot(curve["ratio"], curve["value"], color=BALANCED, ms=3.8, clip_on=False, **filled(look))
            curve = here[here["metric"] == f"{metric}_of_balanced"]
            if len(curve):
                axis.plot(curve["ratio"], curve["value"], ms=3.4, clip_on=False, **_RECOUNTED[1])
            ratio_axis(axis, here["ratio"], below=dict(zip(here["ratio"], here["share_single"], strict=True)))
            axis.set_ylim(bottom=0)
            axis.set_xlabel("r of the step profile; factor on Li’s mean")
    for row, (dataset, network) in zip(axes[len(references) :], places, strict=False):
        here = trained[(trained["dataset"] == dataset) & (trained["network"] == network)]
        own = [s for s in shown if here["setting"].eq(s.name).any()]
        shares = dict(zip(here["setting"], here["share_single"], strict=True))
        row[0].set_ylabel(f"{network}, {dataset}")
        for axis, metric in zip(row, COUNTED, strict=True):
            values = here[here["metric"] == metric].set_index(["setting", "variant"])
            for x, setting in enumerate(own):
                for shift, (variant, (_, look)) in zip((-0.14, 0.14), VARIANTS.items(), strict=True):
                    mark = {"color": styles[setting.name].colour, "marker": look["marker"]}
                    if look["mfc"] is not None:
                        mark["mfc"] = look["mfc"]
                    whiskers(axis, x + shift, values, (setting.name, variant), mark)
            categories(axis, [f"{shares[s.name]:.3f}" for s in own])
            value_axis(axis, metric, values["value"])
            axis.set_xlabel("factor on Li’s mean")
    if not references:
        figure.supxlabel("no optima over r: the study “ratios” was not selected", fontsize=7.5, color=REFERENCE)
    if drawn.empty:
        for axis in axes[0]:
            empty_panel(axis, "no network was trained")
    handles = [Line2D([], [], color=BALANCED, label=label, ms=4, **filled(look)) for label, look in VARIANTS.values()]
    handles += [Line2D([], [], label=_RECOUNTED[0], ms=4, **_RECOUNTED[1])] if references else []
    legend(figure, [*handles, *patches(shown, settings)], columns=4)
    return figure, drawn

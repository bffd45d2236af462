"""What r means: what counting alone does to the metrics when r moves, and its three readings side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import (
    BALANCED,
    MARKERS,
    OPTIMUM_LABELS,
    OPTIMUM_MARKERS,
    PROFILES,
    REFERENCE,
    house_style,
    legend,
    log_axis,
    looks,
    note,
    panels,
    present,
    ratio_axis,
    save,
    setting_handles,
)
from ncpipe.results.tables import COLLAPSE_METRICS, METRIC_LABELS, last_epoch, metric_rows, over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Theory = Mapping[tuple[str, str, str], Mapping[str, Any]]

_COUNTED = ("nc1", "nc2_h", "nc3")  # the metrics that have variants
_REFERENCES = {"convex": "certified optimum", "relu": "optimum with features ≥ 0"}
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "definition": ("definition", {"ls": "-", "marker": "o", "mfc": None}),
    "li2024": ("as Li et al. count", {"ls": "--", "marker": "s", "mfc": "white"}),
}
_RECOUNTED: tuple[str, dict[str, Any]] = (
    "balanced optimum, counted so at r",
    {"color": REFERENCE, "ls": ":", "marker": "^", "mfc": "white"},
)
_PLACES = ["part", "dataset", "network", "setting", "profile", "ratio", "reference", "metric", "variant"]
_NUMBERS = ["value", "low", "high", "seeds", "samples", "share_single"]
_FEW_TICKS = 4  # on the ratio axis of a narrow panel
_NOTHING = "0 at every optimum,\nwhatever r is"


def _labels(theory: Theory, dataset: str, setting: str) -> tuple[float, float]:
    """Samples of a setting and the share of multiplicity one among them; NaN where no theory file has it."""
    for key, payload in theory.items():
        if key[:2] == (dataset, setting):
            entry = payload["distribution"]
            counts = np.asarray(entry.get("natural_counts", entry["counts"]), dtype=float)
            single = np.array([len(s) == 1 for s in entry["label_sets"]])
            return float(counts.sum()), float(counts[single].sum() / counts.sum())
    return float("nan"), float("nan")


def _study_rows(ratios: pd.DataFrame | None, quantities: Sequence[str]) -> pd.DataFrame:
    """Rows of the study ``ratios`` as rows of a figure; none without the study."""
    columns = [*_PLACES, *_NUMBERS]
    if ratios is None:
        return pd.DataFrame(columns=columns)
    share = ratios.loc[ratios["quantity"] == "share_single"].set_index(["profile", "ratio"])["value"]
    rows = ratios.loc[ratios["quantity"].isin(quantities)].rename(columns={"quantity": "metric"})
    keys = pd.MultiIndex.from_frame(rows[["profile", "ratio"]])
    rows = rows.assign(part="optimum", share_single=share.reindex(keys).to_numpy(), low=np.nan, high=np.nan)
    return rows.reindex(columns=columns).sort_values(
        ["reference", "metric", "variant", "profile", "ratio"], kind="stable", ignore_index=True
    )


def _network_rows(
    metrics: pd.DataFrame,
    theory: Theory,
    settings: Mapping[str, Setting],
    networks: Sequence[str],
    wanted: Sequence[tuple[str, str]],
) -> pd.DataFrame:
    """Metrics at the last epoch over seeds, settings without a control, as rows of a figure."""
    chosen = [
        metric_rows(metrics, metric, variant=variant).assign(variant=variant if metric in _COUNTED else "")
        for metric, variant in wanted
    ]
    rows = pd.concat(chosen)
    rows = rows.loc[rows["network"].isin(networks)]
    shown = present(settings, rows, controls=False)
    rows = rows.loc[rows["setting"].isin([s.name for s in shown])]
    if rows.empty:
        return pd.DataFrame(columns=[*_PLACES, *_NUMBERS])
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
    return found.reindex(columns=[*_PLACES, *_NUMBERS])


def _whiskers(axis: Axes, x: float, values: pd.DataFrame, key: Any, look: Mapping[str, Any]) -> None:
    """A mark with its interval over seeds, as far as there are any."""
    if key not in values.index or not np.isfinite(values.loc[key, "value"]):
        return
    row = values.loc[key]
    if np.isfinite(row["low"]):
        axis.plot([x, x], [row["low"], row["high"]], color=look["color"], lw=1.1, solid_capstyle="butt")
    axis.plot(x, row["value"], ls="", mec=look["color"], ms=4.4, clip_on=False, zorder=3, **look)


def _categories(axis: Axes, names: Sequence[str]) -> None:
    axis.set_xticks(range(len(names)), names)
    axis.tick_params(axis="x", length=0)
    axis.grid(visible=False, axis="x")
    axis.set_xlim(-0.6, len(names) - 0.4)


def bookkeeping(
    metrics: pd.DataFrame,
    theory: Theory,
    ratios: pd.DataFrame | None,
    settings: Mapping[str, Setting],
    *,
    networks: Mapping[str, str],
    output_stem: Path,
) -> pd.DataFrame:
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
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: part ("optimum", "networks"), dataset, network, setting, profile, ratio, reference, metric
        ("nc3_of_balanced" is the dotted line), variant, value (mean over seeds), low, high, seeds, samples,
        share_single (the factor on the mean).
    """
    optima = _study_rows(ratios, ["nc2_h", "nc3", "nc3_of_balanced"])
    optima = optima.loc[optima["profile"] == "step"]
    wanted = [(metric, variant) for metric in _COUNTED for variant in _VARIANTS]
    trained = _network_rows(metrics, theory, settings, list(networks), wanted)
    drawn = _joined(optima, trained)
    references = [reference for reference in _REFERENCES if optima["reference"].eq(reference).any()]
    places = list(dict.fromkeys(trained[["dataset", "network"]].itertuples(index=False, name=None)))
    shown = present(settings, trained, controls=False) if len(trained) else []
    styles = looks(settings)
    with house_style():
        from matplotlib.lines import Line2D

        figure, axes = panels(max(1, len(references) + len(places)), len(_COUNTED), width=2.75, height=1.75)
        for axis, metric in zip(axes[0], _COUNTED, strict=True):
            axis.set_title(METRIC_LABELS[metric])
        for row, reference in zip(axes, references, strict=False):
            here = optima[optima["reference"] == reference]
            row[0].set_ylabel(_REFERENCES[reference])
            _empty(row[0], _NOTHING)
            for axis, metric in zip(row[1:], _COUNTED[1:], strict=True):
                for variant, (_, look) in _VARIANTS.items():
                    curve = here[(here["metric"] == metric) & (here["variant"] == variant)]
                    axis.plot(curve["ratio"], curve["value"], color=BALANCED, ms=3.8, clip_on=False, **_filled(look))
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
            for axis, metric in zip(row, _COUNTED, strict=True):
                values = here[here["metric"] == metric].set_index(["setting", "variant"])
                for x, setting in enumerate(own):
                    for shift, (variant, (_, look)) in zip((-0.14, 0.14), _VARIANTS.items(), strict=True):
                        mark = {"color": styles[setting.name].colour, "marker": look["marker"]}
                        if look["mfc"] is not None:
                            mark["mfc"] = look["mfc"]
                        _whiskers(axis, x + shift, values, (setting.name, variant), mark)
                _categories(axis, [f"{shares[s.name]:.3f}" for s in own])
                _value_axis(axis, metric, values["value"])
                axis.set_xlabel("factor on Li’s mean")
        if not references:
            figure.supxlabel("no optima over r: the study “ratios” was not selected", fontsize=7.5, color=REFERENCE)
        if drawn.empty:
            for axis in axes[0]:
                _empty(axis, "no network was trained")
        handles = [
            Line2D([], [], color=BALANCED, label=label, ms=4, **_filled(look)) for label, look in _VARIANTS.values()
        ]
        handles += [Line2D([], [], label=_RECOUNTED[0], ms=4, **_RECOUNTED[1])] if references else []
        legend(figure, [*handles, *_patches(shown, settings)], columns=4)
        save(figure, output_stem, drawn)
    return drawn


def _joined(optima: pd.DataFrame, trained: pd.DataFrame) -> pd.DataFrame:
    """Both parts as one table; an empty one has no types to give."""
    parts = [part for part in (optima, trained) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else optima.reset_index(drop=True)


def _filled(look: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in look.items() if value is not None}


def _patches(shown: Sequence[Setting], settings: Mapping[str, Setting]) -> list[Any]:
    return setting_handles(shown, looks(settings), line=False)


def _empty(axis: Axes, text: str) -> None:
    """A panel without axes that says why it is empty."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    note(axis, text)


def _value_axis(axis: Axes, metric: str, values: pd.Series) -> None:
    """NC1 runs over orders of magnitude, the others start at 0."""
    if values.isna().all():
        note(axis, "not defined in this run")
    elif metric == "nc1":
        log_axis(axis, values)
    else:
        axis.set_ylim(bottom=0)


def readings(
    metrics: pd.DataFrame,
    optimum: pd.DataFrame,
    theory: Theory,
    ratios: pd.DataFrame | None,
    settings: Mapping[str, Setting],
    *,
    networks: Mapping[str, str],
    output_stem: Path,
) -> pd.DataFrame:
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
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn, with the columns of `bookkeeping`; part "marks" is the optimum at the settings of networks.
    """
    optima = _study_rows(ratios, COLLAPSE_METRICS)
    optima = optima.loc[optima["variant"].isin(["", "definition"])]
    trained = _network_rows(metrics, theory, settings, list(networks), [(m, "definition") for m in COLLAPSE_METRICS])
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
    drawn = _joined(optima, _joined(trained, marks))
    references = [reference for reference in _REFERENCES if optima["reference"].eq(reference).any()]
    with house_style():
        from matplotlib.lines import Line2D

        figure, axes = panels(max(1, len(references) + len(places)), len(COLLAPSE_METRICS), width=2.0, height=1.75)
        for axis, metric in zip(axes[0], COLLAPSE_METRICS, strict=True):
            axis.set_title(METRIC_LABELS[metric])
        for row, reference in zip(axes, references, strict=False):
            here = optima[optima["reference"] == reference]
            row[0].set_ylabel(_REFERENCES[reference])
            for axis, metric in zip(row, COLLAPSE_METRICS, strict=True):
                if metric == "nc1":
                    _empty(axis, _NOTHING)
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
                    _whiskers(axis, x, values, name, {"color": colour, "marker": MARKERS[i]})
                    for reference in _REFERENCES:
                        for value in beside.loc[
                            (beside["setting"] == name) & (beside["reference"] == reference), "value"
                        ]:
                            if metric != "nc1":
                                axis.plot(x, value, ls="", zorder=2, clip_on=False, **OPTIMUM_MARKERS[reference])
                _categories(axis, [f"{settings[name].ratio:g}\n{samples[name]:.0f}" for name in own])
                _value_axis(axis, metric, values["value"])
                axis.set_xlabel("r; below it, samples")
        said = [] if references else ["no optima over r: the study “ratios” was not selected"]
        said += [f"one reading of r only: {', '.join(without)}"] if without else []
        if said:
            figure.supxlabel("; ".join(said), fontsize=7.5, color=REFERENCE)
        if drawn.empty:
            for axis in axes[0]:
                _empty(axis, "one reading only")
        handles = [
            Line2D([], [], color=colour, marker=MARKERS[i], ms=4, label=label)
            for i, (label, colour) in enumerate({"balanced": BALANCED, **PROFILES}.items())
        ]
        if places:
            handles += [
                Line2D([], [], ls="", label=OPTIMUM_LABELS[name], **look) for name, look in OPTIMUM_MARKERS.items()
            ]
        legend(figure, handles)
        save(figure, output_stem, drawn)
    return drawn


def _marks(optimum: pd.DataFrame, trained: pd.DataFrame, networks: Mapping[str, str]) -> pd.DataFrame:
    """The metrics at the optima of the settings that networks are drawn at."""
    rows = pd.concat(metric_rows(optimum, metric) for metric in COLLAPSE_METRICS)
    rows = rows[["dataset", "setting", "objective", "reference", "metric", "value"]]
    places = trained.drop(columns=["reference", "value", "low", "high", "seeds"])
    places = places.assign(part="marks", objective=[networks[name] for name in places["network"]])
    found = places.merge(rows, on=["dataset", "setting", "objective", "metric"], how="inner")
    return found.reindex(columns=[*_PLACES, *_NUMBERS])

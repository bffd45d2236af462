"""The label covariance spectrum: what labels alone say about the geometry to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ncpipe.errors import InputError
from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import legend, looks, note, panels, setting_handles
from ncpipe.labels.spectrum import is_isotropic
from ncpipe.results.theory_file import Theory, TheoryKey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES_SHOWN = 3


_TICKS = 12


def contrast_name(classes: Sequence[Sequence[str]]) -> str:
    """Name a contrast by the classes on its two sides, ``a, b | c``, shortened where they are many."""
    sides = [", ".join(side[:_NAMES_SHOWN]) + (", …" if len(side) > _NAMES_SHOWN else "") for side in classes]
    return " | ".join(side or "–" for side in sides)


def _drawn_already(
    setting: Setting, dataset: str, theory: Mapping[TheoryKey, Theory], settings: Mapping[str, Setting]
) -> bool:
    """Whether a setting differs from another one of this data set in its training only."""
    same = (setting.labels, setting.sampling, setting.cap)
    others = [settings[name] for place, name, _ in theory if place == dataset and name in settings]
    return setting.budget == "steps" and any(
        other.budget != "steps" and (other.labels, other.sampling, other.cap) == same for other in others
    )


def spectrum(theory: Mapping[TheoryKey, Theory], settings: Mapping[str, Setting]) -> tuple[Figure, pd.DataFrame]:
    """Draw the eigenvalues of C_m for each multiplicity, and pooled, for each setting; theory.md (3), (5).

    The last point of a curve is κ; below each panel stands the contrast it belongs to. Settings that differ in the
    budget of training only share their labels and are drawn once; so are objectives, for the multiplicities.

    Parameters
    ----------
    theory : mapping
        Of (data set, setting, objective) to the theory stage's results.
    settings : mapping of str to Setting

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: dataset, setting, objective, spectrum ("1", "2", ..., "pooled"), index, eigenvalue, and with
        the last of each spectrum its weakest contrast.

    Raises
    ------
    InputError
        If there is no theory result.
    """
    entries = {
        (dataset, name): (objective, entry.spectra)
        for (dataset, name, objective), entry in theory.items()
        if name in settings and not _drawn_already(settings[name], dataset, theory, settings)
    }
    if not entries:
        raise InputError("spectrum: no result of the theory stage for the settings of the configuration")
    records = []
    for (dataset, name), (objective, spectra) in entries.items():
        for part in spectra:
            label = "pooled" if part.multiplicity is None else str(part.multiplicity)
            weakest = "all contrasts alike" if is_isotropic(part.anisotropy) else contrast_name(part.sides)
            # Of very many classes only the two ends are known: the first, and the last of K - 1.
            values, count = part.eigenvalues.tolist(), len(part.weakest) - 1
            places = range(1, count + 1) if len(values) == count else (1, count)
            for place, value in zip(places, values, strict=True):
                records.append((dataset, name, objective, label, place, value, weakest if place == count else ""))
    columns = ["dataset", "setting", "objective", "spectrum", "index", "eigenvalue", "weakest"]
    drawn = pd.DataFrame(records, columns=columns)
    styles = looks(settings)
    shown = [s for s in settings.values() if s.name in set(drawn["setting"])]
    datasets = list(dict.fromkeys(drawn["dataset"]))
    labels = sorted(set(drawn["spectrum"]), key=lambda label: (label == "pooled", label))
    figure, axes = panels(len(datasets), len(labels), width=2.9, height=2.15 + 0.13 * len(shown))
    for i, dataset in enumerate(datasets):
        for axis, label in zip(axes[i], labels, strict=True):
            here = drawn[(drawn["dataset"] == dataset) & (drawn["spectrum"] == label)]
            notes = []
            for setting in shown:
                curve = here[here["setting"] == setting.name]
                if curve.empty:
                    continue
                look = styles[setting.name]
                axis.plot(
                    curve["index"],
                    curve["eigenvalue"],
                    color=look.colour,
                    marker=look.marker,
                    ls=look.dashes,
                    ms=3.6,
                    clip_on=False,
                )
                notes.append((look.colour, curve["eigenvalue"].iloc[-1], curve["weakest"].iloc[-1]))
            if here.empty:
                note(axis, f"no samples of multiplicity {label}")
                axis.set_axis_off()
                continue
            axis.set_ylim(0, 1.1 * max(here["eigenvalue"].max(), 1e-12))
            if here["index"].max() <= _TICKS:
                axis.set_xticks(sorted(set(here["index"])))
            axis.set_xlabel("eigenvalue, descending")
            for j, (colour, kappa, weakest) in enumerate(notes):
                axis.annotate(
                    f"κ = {kappa:.3g}   {weakest}",
                    (0, 0),
                    xycoords="axes fraction",
                    xytext=(0, -38 - 9.5 * j),
                    textcoords="offset points",
                    fontsize=6.5,
                    color=colour,
                    va="baseline",
                    annotation_clip=False,
                )
            if i == 0:
                title = "pooled" if label == "pooled" else f"multiplicity {label}"
                axis.set_title(title)
        axes[i, 0].set_ylabel(dataset)
    legend(figure, setting_handles(shown, styles))
    return figure, drawn

"""The pictures of ``ncpipe spectrum``, ``optimum`` and ``rebalance``, one file each."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.rebalance import Rebalancing
from ncpipe.labels.spectrum import Spectrum, pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import prediction_sigma

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito (2008)
_POOLED = "#1a1a1a"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GUIDE = "#6b6b6b"
_LETTERS_SAID = 8
_BOXES = "Last Resort"  # a font whose letters are boxes
_CLASSES_SHOWN = 30  # bars with names
_STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "savefig.dpi": 200,
    "svg.hashsalt": "ncpipe",
}


def draw_spectra(path: Path, spectra: Mapping[str, Spectrum], distribution: LabelDistribution) -> None:
    """Eigenvalues (3) of each C_m and of C_pool, and the weakest contrast of C_pool by class.

    Parameters
    ----------
    path : Path
        .png, .svg or .pdf.
    spectra : mapping of str to Spectrum
        By multiplicity, and ``pooled``.
    distribution : LabelDistribution
        For the names of the classes.
    """
    with _figure(path, panels=2) as (left, right):
        for i, (name, spectrum) in enumerate(spectra.items()):
            pooled = name == "pooled"
            values, ends = spectrum.eigenvalues, (1, distribution.classes - 1)
            index = np.arange(1, len(values) + 1) if len(values) == distribution.classes - 1 else np.array(ends)
            left.plot(
                index,
                values,
                color=_POOLED if pooled else _COLOURS[i % len(_COLOURS)],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=3,
                linewidth=1.8 if pooled else 1.0,
                label=f"{'pooled' if pooled else f'm = {name}'}: κ = {spectrum.kappa:.3g}",
            )
        left.set(xlabel="eigenvalue, descending", ylabel="variance of the contrast", ylim=(0, None))
        left.set_title("label covariance spectrum")
        _whole_numbers(left)
        _legend_below(left, columns=3)
        contrast = spectra["pooled"].weakest
        order = np.argsort(-np.abs(contrast), kind="stable")[:_CLASSES_SHOWN]
        order = order[np.argsort(-contrast[order], kind="stable")]
        colours = [_COLOURS[0] if v > 0 else _COLOURS[1] for v in contrast[order]]
        right.barh(np.arange(len(order)), contrast[order], color=colours)
        right.set_yticks(np.arange(len(order)), [_literal(distribution.class_names[k]) for k in order], fontsize=6.5)
        right.invert_yaxis()
        right.axvline(0.0, color=_GUIDE, linewidth=0.7)
        kappa = spectra["pooled"].kappa
        right.set(xlabel=f"weight of the class (κ = {kappa:.3g})", title="weakest contrast, pooled")


def draw_optimum(
    path: Path,
    probabilities: np.ndarray,
    margins: tuple[np.ndarray, np.ndarray],
    radius: float,
    distribution: LabelDistribution,
    objective: Objective,
) -> None:
    """Singular values of the optimum's predictions within the band of (20) around the labels', and margins (21).

    Parameters
    ----------
    path : Path
        .png, .svg or .pdf.
    probabilities : ndarray, shape (S, K)
    margins : pair of ndarray, shape (S,)
        Smallest margin of each label set, and what (21) guarantees.
    radius : float
        Bound on ‖R‖₂, half the width of the band.
    distribution : LabelDistribution
    objective : Objective
    """
    with _figure(path, panels=2) as (left, right):
        sigma = prediction_sigma(distribution, objective, probabilities=probabilities)
        index = np.arange(1, len(sigma) + 1)
        label = np.sqrt(pooled_spectrum(distribution, objective.target).eigenvalues)
        place = index if len(label) == len(index) else index[[0, -1]]
        low, high = np.maximum(label - radius, 0.0), label + radius
        left.fill_between(place, low, high, color=_COLOURS[1], alpha=0.2, linewidth=0, label="labels ± λ, (20)")
        left.plot(place, label, color=_COLOURS[1], linewidth=0.9, label="labels, √λ of C_pool")
        left.plot(index, sigma, color=_COLOURS[0], marker="o", markersize=3, linewidth=1.2, label="predictions")
        left.set(xlabel="singular value, descending", ylabel="σ", ylim=(0, None), title="contrasts of the predictions")
        _whole_numbers(left)
        left.legend(fontsize=7)
        margin, least = margins
        for i, m in enumerate(distribution.multiplicities):
            chosen = (distribution.multiplicity == m) & np.isfinite(margin)
            if chosen.any():
                right.plot(
                    distribution.counts[chosen],
                    margin[chosen],
                    linestyle="",
                    marker=_MARKERS[i % len(_MARKERS)],
                    markersize=3.5,
                    color=_COLOURS[i % len(_COLOURS)],
                    label=f"m = {m}",
                )
        told = least > 0
        right.plot(
            distribution.counts[told], least[told], linestyle="", marker="_", color=_GUIDE, label="at least (21)"
        )
        right.set_xscale("log")
        right.axhline(0.0, color=_GUIDE, linewidth=0.7)
        right.set(xlabel="samples of the label set", ylabel="margin", title="smallest margin of each label set")
        _legend_below(right)


def draw_rebalancing(
    path: Path, found: Rebalancing, schemes: Sequence[Mapping[str, Any]], distribution: LabelDistribution
) -> None:
    """κ_pool under every weighting with its upper bound, and the factors of (19) over frequency.

    Parameters
    ----------
    path : Path
        .png, .svg or .pdf.
    found : Rebalancing
    schemes : sequence of mapping
        ``scheme`` and ``kappa`` of the weights from class frequencies.
    distribution : LabelDistribution
    """
    with _figure(path, panels=2) as (left, right):
        names = ["as they are", "max_kappa (19)", *(str(entry["scheme"]) for entry in schemes)]
        kappas = [found.kappa_before, found.kappa, *(float(entry["kappa"]) for entry in schemes)]
        colours = [_GUIDE, _COLOURS[0], *[_COLOURS[1]] * len(schemes)]
        left.barh(np.arange(len(names)), kappas, color=colours)
        left.set_yticks(np.arange(len(names)), names)
        left.invert_yaxis()
        left.axvline(found.upper_bound, color=_GUIDE, linewidth=0.8, linestyle=":")
        left.ticklabel_format(axis="x", scilimits=(-3, 4))
        left.set(xlabel="κ_pool (dotted: bound within the caps)", title="weakest contrast")
        factors = found.weights / distribution.weights
        for i, m in enumerate(distribution.multiplicities):
            chosen = distribution.multiplicity == m
            right.plot(
                distribution.counts[chosen],
                factors[chosen],
                linestyle="",
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=3.5,
                color=_COLOURS[i % len(_COLOURS)],
                label=f"m = {m}",
            )
        right.set(xscale="log", yscale="log", xlabel="samples of the label set", ylabel="factor on its samples")
        right.set_title("weights of (19)")
        for formatter in (right.yaxis.set_major_formatter, right.yaxis.set_minor_formatter):
            formatter(lambda value, _: f"{value:g}")
        _legend_below(right)


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend_below(axes: Axes, *, columns: int = 4) -> None:
    """Many multiplicities would hide what is drawn."""
    axes.legend(
        fontsize=6.5, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.2), columnspacing=1, handlelength=1.4
    )


def _literal(name: str) -> str:
    """Return a name as it is read, not as mathematics: whatever stands between two dollars would be parsed."""
    return name.replace("$", r"\$")


def _show_all_letters(path: Path, figure: Figure) -> None:
    """Add installed fonts for letters that the usual one lacks; say once which letters no font shows."""
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
    from matplotlib.text import Text

    letters = {letter for text in figure.findobj(Text) for letter in text.get_text() if letter.isprintable()}
    missing = letters - _letters(get_font(findfont(FontProperties())))
    if not missing:
        return
    fallbacks = []
    for entry in fontManager.ttflist:
        if entry.name.startswith(_BOXES) or entry.name in fallbacks:
            continue
        shown = missing & _letters(get_font(entry.fname))
        if shown:
            fallbacks.append(entry.name)
            missing -= shown
        if not missing:
            break
    mpl.rcParams["font.sans-serif"] = [*mpl.rcParams["font.sans-serif"], *fallbacks]
    if missing:
        boxes = " ".join(sorted(missing)[:_LETTERS_SAID]) + (" …" if len(missing) > _LETTERS_SAID else "")
        print(
            f"{path}: no installed font has {boxes}; drawn as boxes (a font of that script, such as Noto Sans, helps)",
            file=sys.stderr,
        )


def _letters(font: FT2Font) -> set[str]:
    return set(map(chr, font.get_charmap()))


@contextlib.contextmanager
def _figure(path: Path, *, panels: int) -> Iterator[list[Axes]]:
    """Axes side by side, saved at the end; equal content gives equal bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from ncpipe.stores.files import write_atomically

    with mpl.rc_context(_STYLE):
        figure: Figure = Figure(figsize=(3.6 * panels, 3.3), layout="constrained")
        yield list(figure.subplots(1, panels))
        kind = path.suffix.lower().removeprefix(".")
        undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        _show_all_letters(path, figure)
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
            warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support", category=UserWarning)
            figure.savefig(buffer, format=kind, metadata=undated)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error

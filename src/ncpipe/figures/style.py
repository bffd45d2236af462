"""What all figures share: the style file, a fixed look for every setting, and how they are saved with their numbers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.results.tables import COLLAPSE_METRICS, write_table
from ncpipe.stores.files import write_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE_FILE = Path(__file__).with_name("ncpipe.mplstyle")

# Okabe and Ito (2008), told apart with every common colour blindness; black is kept for balanced.
BALANCED = "#1a1a1a"
IMBALANCED = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REFERENCE = "#6b6b6b"
PROFILES = {"step": IMBALANCED[0], "exponential": IMBALANCED[1], "uniform": IMBALANCED[2]}
OPTIMUM_MARKERS: dict[str, dict[str, Any]] = {
    "convex": {"marker": "D", "ms": 4.6, "mfc": "white", "mec": REFERENCE, "mew": 1.1},
    "relu": {"marker": "_", "ms": 12, "mec": "#111111", "mew": 1.8},
}
OPTIMUM_LABELS = {"convex": "certified optimum", "relu": "best known with features ≥ 0"}
ONLY_CONTROLS = "only controls were trained: nothing to compare them with"
_RATIO_TICKS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
_MOST_TICKS = 7
_ROOM = 0.025  # of the width of a ratio axis, on either side


@dataclass(frozen=True)
class Look:
    """How one setting is drawn, in every figure."""

    colour: str
    marker: str
    dashes: str
    hatch: str
    label: str


def looks(settings: Mapping[str, Setting]) -> dict[str, Look]:
    """Give every setting of the configuration its look; controls share the colour of what they control.

    Colour, marker and (for controls) dashes or hatching differ, so that no difference rests on colour alone.
    """
    found: dict[str, Look] = {}
    colours: dict[tuple[str, float, str], str] = {}
    for i, setting in enumerate(settings.values()):
        kind = (setting.profile, setting.ratio, setting.name if setting.profile == "explicit" else "")
        if kind not in colours:
            taken = sum(colour != BALANCED for colour in colours.values())
            colours[kind] = BALANCED if setting.profile == "balanced" else IMBALANCED[taken % len(IMBALANCED)]
        found[setting.name] = Look(
            colour=colours[kind],
            marker=MARKERS[i % len(MARKERS)],
            dashes="--" if setting.controlled else "-",
            hatch="////" if setting.controlled else "",
            label=setting.label,
        )
    return found


def with_undefined(drawn: pd.DataFrame) -> pd.DataFrame:
    """Add a row without a value for each metric of `COLLAPSE_METRICS` that a data set and setting lack.

    The angle metric, for instance, is not defined where no label set has two classes.
    """
    places = drawn[["dataset", "setting"]].drop_duplicates()
    wanted = places.merge(pd.DataFrame({"metric": COLLAPSE_METRICS}), how="cross")
    keys = pd.MultiIndex.from_frame(drawn[["dataset", "setting", "metric"]])
    absent = wanted[~pd.MultiIndex.from_frame(wanted).isin(keys)].assign(seeds=0)
    return pd.concat([drawn, absent.reindex(columns=drawn.columns)], ignore_index=True) if len(absent) else drawn


def present(settings: Mapping[str, Setting], frame: pd.DataFrame, *, controls: bool) -> list[Setting]:
    """Settings that the table has, in the order of the configuration, with or without the controls."""
    names = set(frame["setting"])
    return [s for s in settings.values() if s.name in names and (controls or not s.controlled)]


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults under the one style file, whatever the user's own configuration says."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(mpl.rc_params_from_file(STYLE_FILE, use_default_template=False))
        yield


def panels(rows: int, columns: int, *, width: float, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, shape (rows, columns); width and height are of one panel, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.5))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def epoch_axis(axis: Axes, last: float) -> None:
    """Logarithmic in epochs and linear up to 1, so that epoch 0, the untrained network, has a place."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_xscale("symlog", linthresh=1, linscale=0.5)
    powers = [10.0**p for p in range(int(np.log10(max(last, 1))) + 1)]
    powers = [p for p in powers if last / p > 2] + [last] if last > 1 else powers
    axis.xaxis.set_major_locator(FixedLocator([0, *powers]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1e4 else f"$10^{{{np.log10(value):.0f}}}$")
    axis.set_xlim(0, last)


def ratio_axis(
    axis: Axes, ratios: pd.Series, *, below: Mapping[float, float] | None = None, most: int = _MOST_TICKS
) -> None:
    """R on a logarithmic axis from balanced, on the left, to imbalanced; `below` it, at its ticks, another number.

    Where there would be more than `most` ticks, powers of ten are left.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_xscale("log")
    low, high = float(ratios.min()), float(ratios.max())
    ticks = [t for t in _RATIO_TICKS if low * 0.999 <= t <= high * 1.001]
    if len(ticks) > most:
        ticks = [t for t in ticks if np.log10(t) == round(np.log10(t))]
    second = {tick: f"\n{value:.3f}" for tick in ticks for r, value in (below or {}).items() if np.isclose(r, tick)}
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" + next((s for t, s in second.items() if np.isclose(t, value)), ""))
    )
    if low < high:
        room = (high / low) ** _ROOM
        axis.set_xlim(high * room, low / room)


def note(axis: Axes, text: str) -> None:
    """Say in the middle of a panel why it is empty."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=REFERENCE, fontsize=7.5)


def nothing_to_draw(text: str, numbers: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Return a figure that says why it is empty, and its numbers: the columns without a row."""
    figure, axes = panels(1, 1, width=5.0, height=1.2)
    note(axes[0, 0], text)
    axes[0, 0].set_axis_off()
    return figure, numbers


def log_axis(axis: Axes, values: pd.Series) -> None:
    """Logarithmic values with plain labels, also where less than a decade is shown; a note where there is none."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not (values > 0).any():
        note(axis, "not defined in this run")
        return
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    narrow = np.log10(high / low) < 2
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=12))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}")
    )


def legend(figure: Figure, handles: Sequence[Any], *, columns: int = 6) -> None:
    """Put one legend above all panels."""
    figure.legend(handles=list(handles), loc="outside upper center", ncols=min(columns, len(handles)))


def setting_handles(shown: Sequence[Setting], styles: Mapping[str, Look], *, line: bool = True) -> list[Any]:
    """Legend entries of settings: lines with markers, or patches."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for setting in shown:
        look = styles[setting.name]
        if line:
            handles.append(
                Line2D([], [], color=look.colour, ls=look.dashes, marker=look.marker, label=look.label, markersize=4)
            )
        else:
            handles.append(Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", label=look.label))
    return handles


def save(figure: Figure, output_stem: Path, drawn: pd.DataFrame) -> None:
    """Write ``<stem>.svg``, ``<stem>.png`` and ``<stem>.csv``, the numbers drawn, and their digests.

    Equal input gives equal bytes.
    """
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata)
        write_result(output_stem.with_name(f"{output_stem.name}.{kind}"), buffer.getvalue())
    write_table(output_stem.with_name(f"{output_stem.name}.csv"), drawn)

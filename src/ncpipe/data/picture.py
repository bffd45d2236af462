"""A contact sheet: what the samples of each label set of a data set look like."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncpipe.labels.names import LabelSet, label_set_name
from ncpipe.results.datasets import DataSplit, open_dataset
from ncpipe.stores.files import read_json, write_result

_COLUMNS = 10  # label sets in one row
_ACROSS = 2  # samples across, and down, in one cell
_CELL = 0.92  # side of a cell, inches
_GUTTER = 0.14
_LINE = 0.115  # height of a line of a cell's title, inches
_MARGIN = 0.35
_HEADING = 0.36  # height of a section's heading, inches
_TITLE = 0.62
_INK, _FAINT, _PAPER = "#1d2433", "#6b7486", "#ffffff"


@dataclass(frozen=True)
class _Section:
    """The label sets of one multiplicity: their rows among the label sets, names, and lines of the longest title."""

    multiplicity: int
    rows: list[int]
    titles: list[str]
    lines: int

    @property
    def cell_height(self) -> float:
        return _LINE * self.lines + 0.04 + _CELL + _GUTTER

    @property
    def height(self) -> float:
        return _HEADING + -(-len(self.rows) // _COLUMNS) * self.cell_height


def draw_samples(data_folder: Path, path_png: Path) -> None:
    """Draw the first four training samples of each label set, one cell for each, grouped by multiplicity.

    Equal data give equal bytes (for one version of matplotlib); the picture is written atomically.

    Raises
    ------
    StoreError
        If the data set is missing or damaged.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = open_dataset(data_folder, "train")
    manifest = read_json(data_folder / "manifest.json")
    sections = _sections(data)
    width = 2 * _MARGIN + _COLUMNS * (_CELL + _GUTTER) - _GUTTER
    height = 2 * _MARGIN + _TITLE + sum(section.height for section in sections)
    figure = Figure(figsize=(width, height), facecolor=_PAPER)
    FigureCanvasAgg(figure)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # inches, downwards
    page.axis("off")
    page.text(_MARGIN, _MARGIN, manifest["dataset"], size=15, weight="bold", color=_INK, va="top")
    page.text(_MARGIN, _MARGIN + 0.29, _subtitle(manifest), size=8, color=_FAINT, va="top")
    top = _MARGIN + _TITLE
    for section in sections:
        page.plot([_MARGIN, width - _MARGIN], [top, top], color=_FAINT, linewidth=0.4)
        per_set = np.bincount(data.label_set, minlength=len(data.label_sets))[section.rows]
        heading = f"Multiplicity {section.multiplicity}"
        page.text(_MARGIN, top + 0.1, heading, size=9, weight="bold", color=_INK, va="top")
        detail = f"{len(section.rows)} label sets, {per_set[0]:,} training samples each"
        page.text(width - _MARGIN, top + 0.1, detail, size=8, color=_FAINT, va="top", ha="right")
        for number, (row, title) in enumerate(zip(section.rows, section.titles, strict=True)):
            down, across = divmod(number, _COLUMNS)
            left = _MARGIN + across * (_CELL + _GUTTER)
            upper = top + _HEADING + down * section.cell_height + _LINE * section.lines + 0.04
            for above, line in enumerate(reversed(title.split("\n"))):
                page.text(left, upper - 0.05 - above * _LINE, line, size=6.5, color=_INK)
            cell = _cell(data.images[np.flatnonzero(data.label_set == row)[: _ACROSS**2]])
            extent = (left, left + _CELL, upper + _CELL, upper)
            page.imshow(cell, extent=extent, interpolation="nearest", aspect="auto")
        top += section.height
    page.set(xlim=(0, width), ylim=(height, 0))  # imshow moves the limits
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=200, metadata={"Software": None})
    write_result(path_png, content.getvalue())


def _sections(data: DataSplit) -> list[_Section]:
    present = np.unique(data.label_set).tolist()
    label_sets: dict[int, LabelSet] = {row: tuple(np.flatnonzero(data.label_sets[row]).tolist()) for row in present}
    sections = []
    for multiplicity in sorted({len(label_set) for label_set in label_sets.values()}):
        rows = [row for row in present if len(label_sets[row]) == multiplicity]
        titles = [label_set_name(label_sets[row], data.class_names) for row in rows]
        if max(map(len, titles)) > 14:  # characters that fit above a cell
            titles = [title.replace("+", " +\n") for title in titles]
        lines = 1 + max(title.count("\n") for title in titles)
        sections.append(_Section(multiplicity, rows, titles, lines))
    return sections


def _subtitle(manifest: dict) -> str:
    spec = manifest["spec"]
    return (
        f"{manifest['samples']['train']:,} training and {manifest['samples']['test']:,} test samples, "
        f"composed from {spec['base']}, style {spec['style']}, placement {spec['placement']}, seed {spec['seed']}. "
        "The first four training samples of each label set."
    )


def _cell(images: np.ndarray) -> np.ndarray:
    """Tile up to four images (n, H, W, C) two by two into one RGBA picture, with hairlines between them."""
    count, rows, columns, _ = images.shape
    line = max(1, rows // 28)
    step = (rows + line, columns + line)
    cell = np.zeros((_ACROSS * step[0] - line, _ACROSS * step[1] - line, 4), np.uint8)  # transparent where empty
    for number in range(count):
        top, left = (position * size for position, size in zip(divmod(number, _ACROSS), step, strict=True))
        tile = cell[top : top + rows, left : left + columns]
        tile[..., :3] = images[number]  # grey repeats over the three channels
        tile[..., 3] = 255
    return cell

"""The contact sheet shows the stored pixels, under the right names, in the same bytes each time."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from ncpipe.data.picture import draw_samples
from ncpipe.data.synthesise import synthesise
from ncpipe.results.datasets import open_dataset


def test_equal_data_give_equal_bytes(tmp_path, tiny_spec, log):
    synthesise(tiny_spec, tmp_path, log)
    for name in ("a.png", "b.png"):
        draw_samples(tmp_path, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert {p.name for p in tmp_path.iterdir() if "partial" in p.name} == set()


def test_first_sample_of_the_first_label_set_is_shown(tmp_path, tiny_spec, log):
    synthesise(tiny_spec | {"train_counts": [1], "test_counts": [1]}, tmp_path, log)
    draw_samples(tmp_path, tmp_path / "samples.png")
    page = matplotlib.image.imread(tmp_path / "samples.png")[..., 0]
    stored = open_dataset(tmp_path, "train").images[0, ..., 0] / 255
    black = np.argwhere(page == 0)
    top, left = black.min(axis=0)  # nothing above or left of the first tile is quite black
    scale = 0.92 * 200 / 33  # inches, dots per inch, pixels across two tiles and their hairline
    centres = ((np.arange(16) + 0.5) * scale).astype(int)
    shown = page[np.ix_(top + centres, left + centres)]
    assert np.abs(shown - stored).max() < 0.01


@pytest.mark.parametrize("counts", [[1, 1], [0, 1, 1]])
def test_titles_are_the_names_of_the_label_sets(tmp_path, tiny_spec, log, monkeypatch, counts):
    from matplotlib.axes import Axes

    written = []
    text = Axes.text
    monkeypatch.setattr(Axes, "text", lambda self, x, y, s, **kw: written.append(s) or text(self, x, y, s, **kw))
    synthesise(tiny_spec | {"train_counts": counts}, tmp_path, log)
    draw_samples(tmp_path, tmp_path / "samples.png")
    expected = {"0+1", "8+9"} | ({"0", "9"} if counts[0] else {"0+1+2", "7+8+9"})
    assert expected <= set(written)
    assert ("0" in written) == bool(counts[0])
    assert "tiny" in written

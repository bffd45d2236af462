"""Names in plots: what is not mathematics is read as it is written, and a letter without a font is said once."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from ncpipe.command.plots import draw_spectra
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.spectrum import pooled_spectrum

HARD = ["$x^2$", r"$\frac{1}{", "$$", "a_b", "100% ^~{}", "<script>&amp;", "back\\", r"$\foo$", "水", "مرحبا", "🙂"]


@pytest.fixture
def spectra():
    def draw(path, names):
        counts = {(k,): k + 1 for k in range(len(names))}
        labels = replace(LabelDistribution.from_counts(counts, len(names)), class_names=tuple(names))
        draw_spectra(path, {"pooled": pooled_spectrum(labels, "normalised")}, labels)

    return draw


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_every_name_is_drawn_without_a_warning(kind, spectra, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spectra(tmp_path / f"x.{kind}", HARD)
    assert (tmp_path / f"x.{kind}").stat().st_size > 1000
    # A line about letters that no installed font has, where there are such letters; never two.
    said = capsys.readouterr().err.splitlines()
    assert len(said) <= 1
    assert all("no installed font has" in line for line in said)


def test_plain_names_say_nothing(spectra, tmp_path, capsys):
    spectra(tmp_path / "x.png", ["a", "b", "grün"])
    assert capsys.readouterr().err == ""


def test_dollars_are_not_mathematics(spectra, tmp_path, monkeypatch):
    from matplotlib.text import Text

    parsed = []
    monkeypatch.setattr(
        Text,
        "_preprocess_math",
        lambda self, s, _plain=Text._preprocess_math: parsed.append(_plain(self, s)) or parsed[-1],
    )
    spectra(tmp_path / "x.svg", ["$x^2$", "b", "c"])
    assert ("$x^2$", False) in parsed
    assert np.all([not math for text, math in parsed if "x^2" in text])

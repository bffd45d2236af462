"""Label distributions that are not the default's: every figure, every claim, rebalancing and the page are made."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ncpipe.experiment.setting import settings_from_config
from ncpipe.figures.draw import FUNCTIONS
from ncpipe.figures.style import house_style
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.report.claims import Tables, decide, write_claims
from ncpipe.report.page import write_page
from ncpipe.report.rebalancing import compare
from ncpipe.results.tables import METRICS, OPTIMUM, SYNTHESIS, read_table
from ncpipe.results.theory_file import read_theories

NETWORK = "mlp"


@pytest.fixture(scope="module")
def whole(results):
    """Tables of one network and three settings, at its first and its last epoch: quickly drawn."""
    metrics = read_table(results.metrics, METRICS)
    metrics = metrics[(metrics["network"] == NETWORK) & metrics["epoch"].isin([0, 80])]
    synthesis = read_table(results.synthesis, SYNTHESIS)
    tables = SimpleNamespace(
        metrics=metrics,
        optimum=read_table(results.optimum, OPTIMUM),
        synthesis=synthesis[synthesis["network"].isin([NETWORK, "optimum"])],
        theory=read_theories(results.theory),
        settings=dict(results.settings),
    )
    only(tables, "setting", ["balanced", "step-0.1", "step-0.1-equal-steps"])
    return tables


def without_pairs(case, datasets, multiplicity=None):
    """Data sets whose label sets of two become those of another multiplicity, or are left out."""
    for name in ("metrics", "optimum", "synthesis"):
        table = getattr(case, name)
        pairs = table["dataset"].isin(datasets) & (table["multiplicity"] == 2)
        table = (
            table[~pairs]
            if multiplicity is None
            else table.assign(multiplicity=table["multiplicity"].where(~pairs, multiplicity))
        )
        setattr(case, name, table)
    case.theory = {
        key: _theory_without_pairs(entry, multiplicity) if key[0] in datasets else entry
        for key, entry in case.theory.items()
    }


def _theory_without_pairs(entry, multiplicity):
    counts = {s: n for s, n in entry.distribution.as_counts().items() if len(s) == 1}
    kept = [part for part in entry.spectra if part.multiplicity != 2]
    tagwise = {}
    if multiplicity is not None:
        counts[tuple(range(multiplicity))] = 5
        kept[1:1] = [replace(part, multiplicity=multiplicity) for part in entry.spectra if part.multiplicity == 2]
        tagwise = {multiplicity: None}
    labels = LabelDistribution.from_counts(counts, entry.distribution.classes)
    return replace(entry, distribution=labels, natural=labels, spectra=tuple(kept), tagwise=tagwise)


def only(case, column, values):
    """Rows of these data sets, settings or seeds."""
    for name in ("metrics", "optimum", "synthesis"):
        table = getattr(case, name)
        if column in table:
            setattr(case, name, table[table[column].isin(values)])
    if column in ("dataset", "setting"):
        place = ("dataset", "setting").index(column)
        case.theory = {key: entry for key, entry in case.theory.items() if key[place] in values}


def undefined(case):
    """No metric has a value, and γ is identified nowhere."""
    case.metrics = case.metrics.assign(value=np.nan)
    case.optimum = case.optimum.assign(value=np.nan)
    numbers = dict.fromkeys(("gamma", "gamma_low", "gamma_high", "residual", "loo_residual"), np.nan)
    case.synthesis = case.synthesis.assign(**numbers, identified=False, reason="a class without samples")


def explicit(case):
    """Counts that the configuration lists, in one setting with one seed."""
    only(case, "setting", ["step-0.1"])
    only(case, "seed", [0.0, np.nan])
    case.settings = {"step-0.1": {"profile": "explicit", "counts": {"0": 6, "1": 6, "0+1": 2}}}


BOTH = ["mlab_digits", "mlab_mnist5k"]
CASES = {
    "singles only": lambda case: without_pairs(case, BOTH),
    "singles only in one of two data sets": lambda case: without_pairs(case, BOTH[1:]),
    "three labels instead of two": lambda case: without_pairs(case, BOTH, 3),
    "pairs in one data set, three labels in the other": lambda case: without_pairs(case, BOTH[1:], 3),
    "one setting": lambda case: only(case, "setting", ["step-0.1"]),
    "one control alone": lambda case: only(case, "setting", ["step-0.1-equal-steps"]),
    "one seed": lambda case: only(case, "seed", [0.0, np.nan]),
    "explicit counts": explicit,
    "nothing is defined": undefined,
}


RENDERED = ("singles only in one of two data sets", "nothing is defined")


@pytest.fixture(params=CASES, scope="module")
def case(request, whole):
    made = SimpleNamespace(**vars(whole))
    CASES[request.param](made)
    made.name = request.param
    return made


def arguments(name, case):
    tables = {
        "dynamics": (case.metrics,),
        "final": (case.metrics, case.optimum),
        "gap": (case.metrics, case.theory),
        "spectrum": (case.theory,),
        "bookkeeping": (case.metrics, case.theory, None),
        "readings": (case.metrics, case.optimum, case.theory, None),
        "synthesis": (case.synthesis,),
        "exponents": (case.synthesis,),
    }[name]
    place = {"network": NETWORK, "objective": "pal", "variant": "definition", "networks": {NETWORK: "pal"}}
    taken = {
        "dynamics": ("network", "variant"),
        "final": ("network", "objective", "variant"),
        "gap": ("network", "objective"),
        "spectrum": (),
        "bookkeeping": ("networks",),
        "readings": ("networks",),
        "synthesis": ("network",),
        "exponents": ("network",),
    }[name]
    return (*tables, settings_from_config(case.settings)), {key: place[key] for key in taken}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not name.startswith("study-")])
def test_every_figure_is_drawn_and_has_a_panel_or_a_word_for_everything(name, case):
    tables, options = arguments(name, case)
    with house_style():
        figure, numbers = FUNCTIONS[name](*tables, **options)
        if case.name in RENDERED:
            figure.draw_without_rendering()
    for axis in figure.axes:
        drawn = [line for line in (*axis.lines, *axis.patches) if np.isfinite(line.get_path().vertices).any()]
        assert drawn or axis.texts, f"{name}: an empty panel without a word"
    assert list(numbers.columns)


def test_every_claim_is_decided_or_says_what_is_missing_and_the_page_is_made(case, results, tmp_path):
    tables = Tables(
        metrics=case.metrics,
        synthesis=case.synthesis,
        optimum=case.optimum,
        theory=case.theory,
        settings=settings_from_config(case.settings),
        objectives={NETWORK: "pal"},
    )
    for verdict in decide(tables):
        assert verdict.reason
        for entry in verdict.evidence:
            assert entry.verdict == "undecided" or entry.value is not None
    write_claims(tables, tmp_path / "claims.json", tmp_path / "claims.csv")
    networks = {NETWORK: {"architecture": "mlp", "objective": "pal"}}
    compared = compare(case.metrics, case.optimum, tables.settings, networks)
    rows = compared.astype(object).where(compared.notna(), None).to_dict(orient="records")
    (tmp_path / "rebalancing.json").write_text(json.dumps({"settings": [], "comparisons": rows}), encoding="utf-8")
    config = {"settings": case.settings, "networks": networks, "datasets": {name: {"base": "digits"} for name in BOTH}}
    write_page(
        tmp_path / "index.html",
        claims=tmp_path / "claims.json",
        rebalancing=tmp_path / "rebalancing.json",
        figures=[],
        captions=[],
        manifests=results.manifests[:1],
        config=config,
    )
    assert (tmp_path / "index.html").stat().st_size > 1000


def test_nothing_defined_supports_and_contradicts_nothing_in_networks(whole):
    made = SimpleNamespace(**vars(whole))
    undefined(made)
    tables = Tables(
        made.metrics, made.synthesis, made.optimum, {}, settings_from_config(made.settings), {NETWORK: "pal"}
    )
    assert {verdict.verdict for verdict in decide(tables)} == {"undecided"}


def test_a_data_set_without_pairs_has_a_row_without_a_value_for_the_angle(whole):
    made = SimpleNamespace(**vars(whole))
    without_pairs(made, BOTH[1:])
    settings = settings_from_config(made.settings)
    _, drawn = FUNCTIONS["final"](
        made.metrics, made.optimum, settings, network=NETWORK, objective="pal", variant="definition"
    )
    angles = drawn[drawn["metric"] == "angle"].set_index("dataset")["value"]
    assert angles.loc[BOTH[0]].notna().all()
    assert angles.loc[BOTH[1]].isna().all()
    assert isinstance(drawn, pd.DataFrame)

"""The studies: their tables against closed forms, measured values, and what must never be violated."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ncpipe.experiment import plan
from ncpipe.labels.design import REFERENCE, Scale
from ncpipe.labels.spectrum import multiplicity_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.results.tables import (
    CRITICAL_STUDY,
    PHASE_STUDY,
    RATIOS_STUDY,
    SPECTRUM_STUDY,
    SYNTHETIC_STUDY,
    TAGWISE_STUDY,
    read_table,
)
from ncpipe.theory.studies import (
    STUDIES,
    critical_study,
    designs,
    phase,
    phase_study,
    ratios,
    ratios_study,
    spectrum,
    spectrum_study,
    synthetic,
    synthetic_study,
    tagwise_study,
    write_study,
)
from ncpipe.theory.studies.designs import profile_distribution, step_with_graph

ENTRY = {"target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.256, "lambda_b": 5e-4, "bias": True}
PAL = Objective.from_config(ENTRY)
SMALL = Scale(classes=4, alone=31.0, per_pair=4.0)
COLUMNS = {
    "phase": PHASE_STUDY, "critical": CRITICAL_STUDY, "ratios": RATIOS_STUDY, "spectrum": SPECTRUM_STUDY,
    "tagwise": TAGWISE_STUDY, "synthetic": SYNTHETIC_STUDY,
}  # fmt: skip
TINY = {
    "phase": {"ratios": {"low": 0.01, "high": 1.0, "points": 3}, "lambdas": {"low": 0.05, "high": 1.0, "points": 4},
              "per_pair": [0, 4]},
    "critical": {"ratios": [0.1], "per_pair": [4]},
    "ratios": {"ratios": [0.1]},
    "spectrum": {"ratio": 0.2, "members": 4, "graphs": 2, "critical_members": 1, "seed": 0},
    "tagwise": {"ratios": [1.0, 0.2], "shares": [0.0, 1.0]},
    "synthetic": {"ratios": [0.2], "strengths": [0.0, 1.0], "lambdas": [0.05], "draws": 2, "seed": 0},
}  # fmt: skip


def settings(name, **changes):
    labels = {"classes": 4, "counts": [31, 4]}
    return {"objective": ENTRY, "labels": labels, "parameters": {**TINY[name], **changes}}


# --- all of them ----------------------------------------------------------------------------------------------------


def test_studies_have_the_same_names_everywhere():
    assert tuple(STUDIES) == plan.STUDIES == tuple(COLUMNS) == tuple(TINY)


@pytest.mark.parametrize("name", STUDIES)
def test_tables_are_read_back_certified_and_equal_for_equal_settings(name, tmp_path):
    for turn in ("a", "b"):
        written = write_study(name, settings(name), tmp_path / turn)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    table = read_table(tmp_path / "a", (*dict.fromkeys((*COLUMNS[name], "certified")),))
    assert len(table) == len(written) > 0
    if name == "ratios":  # the relaxation for features >= 0 need not be tight
        table = table[(table["quantity"] != "relu") & (table["reference"] != "relu")]
    assert table["certified"].all()


@pytest.mark.parametrize("name", ["spectrum", "synthetic"])
def test_another_seed_is_another_table(name, tmp_path):
    tables = [write_study(name, settings(name, seed=seed), tmp_path / "x") for seed in (0, 1)]
    assert not tables[0]["kappa_2"].equals(tables[1]["kappa_2"])


def test_what_is_read_off_an_uncertified_optimum_is_left_empty(monkeypatch, tmp_path):
    """The row stays, and says what gap was reached."""

    def uncertified(*args, **options):
        return replace(solve(*args, **options), certified=False, relative_gap=0.3)

    for module in (designs, phase, ratios, spectrum, synthetic):
        monkeypatch.setattr(module, "solve", uncertified)
    for name, empty in {
        "phase": ["rank", "minority_collapsed"],
        "critical": ["lambda_low", "lambda_high", "rank_above"],
        "spectrum": ["sigma_min_logits", "margin", "lambda_critical", "sigma_min_predictions"],
        "synthetic": ["rank", "sigma_min_logits", "sigma_min_predictions", "geometry_sigma", "geometry_bound"],
    }.items():
        table = write_study(name, settings(name), tmp_path / name)
        assert table[empty].isna().all(axis=None)
        assert (table["relative_gap"] == 0.3).all()
        assert not table["certified"].any()
    table = write_study("ratios", settings("ratios"), tmp_path / "ratios")
    assert table.loc[(table["reference"] == "convex"), "value"].isna().all()
    fitted = table.set_index("quantity").loc["gamma"]
    assert fitted["value"].isna().all()
    assert not fitted["certified"].any()


# --- distributions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "share"),
    [("step", [1, 1, 0.1, 0.1]), ("exponential", [1, 0.1 ** (1 / 3), 0.1 ** (2 / 3), 0.1]), ("uniform", [0.1] * 4)],
)
def test_profiles_thin_single_classes_only(profile, share):
    distribution = profile_distribution(profile, 0.1, SMALL)
    np.testing.assert_allclose(distribution.class_counts(1), 31 * np.array(share))
    np.testing.assert_allclose(distribution.counts[distribution.multiplicity == 2], 4.0)


@pytest.mark.parametrize("graph", ["matching", "bipartite"])
def test_a_share_of_a_graph_moves_the_second_anisotropy_alone(graph):
    for ratio, share in itertools.product((1.0, 0.2), (0.0, 0.4, 1.0)):
        distribution = step_with_graph(ratio, share, graph, SMALL)
        np.testing.assert_allclose(distribution.class_counts(1), [31, 31, 31 * ratio, 31 * ratio])
        np.testing.assert_allclose(distribution.class_counts(2), 12.0)
        assert multiplicity_spectrum(distribution, 1).anisotropy == pytest.approx(1 - ratio, abs=1e-12)
    assert multiplicity_spectrum(step_with_graph(1.0, 1.0, graph, SMALL), 2).anisotropy == pytest.approx(1)


# --- phase and critical ---------------------------------------------------------------------------------------------


def test_minority_classes_collapse_where_the_closed_form_says_and_nowhere_else():
    table = phase_study(
        PAL, scale=Scale(classes=6), ratios=[1.0, 0.3, 0.05, 0.004], lambdas=np.geomspace(0.02, 0.6, 14).tolist(),
        per_pair=[0, 3, 200],
    )  # fmt: skip
    assert table["certified"].all()
    assert ((table["lambda"] >= table["lambda_minority"]) == (table["minority_collapsed"] == 1)).all()
    assert ((table["lambda"] >= table["lambda_zero"]) == (table["rank"] == 0)).all()
    assert set(table["rank"]) == {0, 2, 3, 5}  # none, majority, majority against minority too, all
    np.testing.assert_allclose(table["lambda_objective"], PAL.lam)
    row = table[(table["ratio"] == 0.05) & (table["samples_per_pair"] == 200)].iloc[0]
    samples = 3 * 3100 * 1.05 + 15 * 200  # (11a): r n_1 + (K - 2) n_2 / 4, over N
    assert row["lambda_minority"] == pytest.approx(np.sqrt((0.05 * 3100 + 4 * 200 / 4) / samples))


def test_one_sample_of_each_pair_forbids_minority_collapse_at_the_reference_penalty():
    """theory.md below (11a): 1.2866e-4 against λ² = 1.28e-4 as r → 0, and without pairs nothing stands in the way."""
    table = phase_study(PAL, ratios=[1e-9], lambdas=[PAL.lam], per_pair=[0, 1]).set_index("samples_per_pair")
    assert table.loc[1, "lambda_minority"] ** 2 == pytest.approx(1.2866e-4, rel=1e-4)
    assert table["minority_collapsed"].to_dict() == {0: 1.0, 1: 0.0}


def test_full_rank_is_lost_where_closed_forms_say():
    table = critical_study(PAL, scale=Scale(classes=6), ratios=[1.0, 0.1], per_pair=[200])
    assert table["certified"].all()
    assert (table["lambda_high"] - table["lambda_low"] <= 1.01e-4 * table["lambda_high"]).all()
    middle = (table["lambda_low"] + table["lambda_high"]) / 2
    np.testing.assert_allclose(middle, table["lambda_minority"].fillna(middle), rtol=1e-4)  # (11a)
    symmetric = table["profile"] != "exponential"
    np.testing.assert_allclose(middle[symmetric], table.loc[symmetric, "root_kappa_pool"], rtol=1e-4)
    ranks = table.set_index(["profile", "ratio"])["rank_above"]
    assert (ranks.xs(1.0, level="ratio") == 0).all()
    assert ranks.xs(0.1, level="ratio").to_dict() == {"step": 3, "exponential": 4, "uniform": 0}
    exponential = table[table["profile"] == "exponential"].iloc[1]
    assert 0.9 < exponential["lambda_low"] / exponential["root_kappa_pool"] < 0.9999


def test_a_critical_lambda_below_the_range_that_is_searched_is_left_empty():
    (row,) = critical_study(PAL, scale=SMALL, ratios=[1e-9], per_pair=[0]).query("profile == 'step'").to_dict("records")
    assert np.isnan(row["lambda_low"])
    assert np.isnan(row["rank_above"])
    assert not row["certified"]
    assert row["lambda_minority"] == pytest.approx(np.sqrt(1e-9 / 2))


# --- ratios ---------------------------------------------------------------------------------------------------------


def test_bound_optimum_and_relu_optimum_in_their_order_with_the_measured_values():
    table = ratios_study(PAL, ratios=[1.0, 0.2])
    values = table[table["quantity"].isin(["optimum", "relu", "bound"])].pivot_table(
        index=["profile", "ratio"], columns="quantity", values="value"
    )
    assert (values["bound"] <= values["optimum"] * (1 + 1e-12)).all()
    assert (values["optimum"] < values["relu"]).all()
    assert values.loc[("step", 0.2), "optimum"] == pytest.approx(0.43967, abs=5e-6)
    np.testing.assert_allclose(values.loc["step", "relu"], [0.454008, 0.387074], atol=1e-6)
    np.testing.assert_allclose(values.loc["uniform", "bound"], values.loc["uniform", "optimum"], rtol=1e-9)
    proven = table[table["quantity"].isin(["optimum", "relu"])]
    assert (proven["low"] <= proven["value"]).all()
    np.testing.assert_allclose(proven["high"] / proven["low"] - 1, proven["relative_gap"], rtol=1e-3, atol=1e-12)

    # The collapse metrics at the same optima.
    places = ["reference", "quantity", "variant", "profile", "ratio"]
    metrics = table.set_index(places)["value"].sort_index()
    step = {key: metrics[("convex", *key, "step", 0.2)] for key in (("nc2_w", ""), ("angle", ""))}
    assert step == pytest.approx({("nc2_w", ""): 0.222, ("angle", ""): 0.020}, abs=6e-4)
    measured = {("nc2_h", "definition"): 0.193, ("nc3", "definition"): 0.019, ("nc3", "li2024"): 0.193}
    for key, value in measured.items():
        assert metrics[("convex", *key, "step", 0.2)] == pytest.approx(value, abs=6e-4)
    shares = metrics["", "share_single", "", "step"]
    np.testing.assert_allclose(shares, [0.673913, 0.775], atol=1e-6)
    for reference in ("convex", "relu"):
        uniform = metrics[reference].loc[("nc2_w", "")]["uniform"]
        np.testing.assert_allclose(uniform, 0, atol=1e-6)


def test_counting_alone_moves_the_metric_of_a_geometry_that_stands_still():
    """The balanced optimum is a simplex, W = H = P up to scale: Li's centre by hand, from the counts at r alone."""
    table = ratios_study(PAL, scale=SMALL, ratios=[0.1]).query("quantity == 'nc3_of_balanced'")
    simplex, pairs = np.eye(4) - 0.25, 6 * 4.0
    shares = {"step": [1, 1, 0.1, 0.1], "exponential": 0.1 ** (np.arange(4) / 3), "uniform": [0.1] * 4}
    for profile, share in shares.items():
        counts = 31.0 * np.asarray(share)
        centre = counts @ simplex / (counts.sum() + pairs)
        product = simplex @ (simplex - centre).T
        expected = np.linalg.norm(product / np.linalg.norm(product) - simplex / np.sqrt(3))
        found = table[table["profile"] == profile]
        assert set(found["reference"]) == {"convex", "relu"}
        np.testing.assert_allclose(found["value"], expected, atol=1e-6)


def test_exponents_with_the_measured_values_and_none_where_classes_are_equally_frequent():
    gamma = ratios_study(PAL, ratios=[0.2]).query("quantity == 'gamma'").set_index(["profile", "basis", "frequency"])
    gamma = gamma.sort_index()
    for basis, value in {"raw": -0.022, "unit": -0.190, "classifier": -0.340}.items():
        row = gamma.loc[("step", basis, "multiplicity_one")]
        assert row["value"] == pytest.approx(value, abs=3e-3)
        assert row["low"] <= row["value"] <= row["high"]
        total = gamma.loc[("step", basis, "total")]
        assert total["value"] / row["value"] == pytest.approx(2.28, abs=0.01)
    assert gamma.loc["uniform", "value"].isna().all()
    assert (gamma.loc["uniform", "reason"] == "equal class counts within every label set").all()


# --- spectrum -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def families():
    return spectrum_study(PAL, ratio=0.2, members=30, graphs=2, critical_members=2, seed=0)


def rank_correlation(table, family, predictor, response):
    members = table[table["family"] == family]
    return members[predictor].corr(members[response], method="spearman")


def test_families_hold_fixed_what_they_are_named_for(families):
    assert families["certified"].all()
    assert families["member"].is_unique
    assert families["family"].value_counts(sort=False).to_dict() == dict.fromkeys(["F1", "F2", "F2b-1", "F2b-2"], 30)
    for family, members in families.groupby("family"):
        assert members["kappa_1"].iloc[0] == pytest.approx(0.1 if family == "F1" else 1 / 30)
        distinct = {name: len(set(members[name])) for name in ("kappa_1", "kappa_2", "kappa_pool")}
        assert distinct["kappa_1"] == 1  # exactly: a correlation with it must not be one with rounding
        assert (distinct["kappa_2"] == 1) == family.startswith("F2b")
        assert distinct["kappa_pool"] > 25  # relabellings may be equivalent


def test_the_optimum_follows_the_pooled_spectrum_as_measured(families):
    """Claim 2: σ of the logits against κ_pool 0.99 (F1), 0.97 (F2), against κ_2 0.99 and less; predictions by (20)."""
    assert rank_correlation(families, "F1", "kappa_pool", "sigma_min_logits") == pytest.approx(0.99, abs=0.02)
    assert rank_correlation(families, "F2", "kappa_pool", "sigma_min_logits") == pytest.approx(0.97, abs=0.03)
    assert rank_correlation(families, "F1", "kappa_2", "sigma_min_logits") == pytest.approx(0.99, abs=0.02)
    assert rank_correlation(families, "F2", "kappa_2", "sigma_min_logits") < 0.97
    for family in families["family"].unique():
        assert rank_correlation(families, family, "kappa_pool", "sigma_min_predictions") > 0.99
        assert rank_correlation(families, family, "kappa_pool", "sigma_min_logits") > 0.7
    law = np.sqrt(families["kappa_pool"]) - PAL.lam
    assert (families["sigma_min_predictions"] >= law - 1e-9).all()


def test_critical_lambdas_are_of_the_first_members_and_near_the_rule_of_thumb(families):
    number = families.groupby("family").cumcount()
    assert (families["lambda_critical"].notna() == (number < 2)).all()
    rule = families["lambda_critical"] / np.sqrt(families["kappa_pool"])
    assert rule.dropna().between(0.8, 1.005).all()


def test_how_well_logits_follow_within_one_graph_depends_on_the_graph():
    """Why F2b has several graphs: between relabellings of one, ρ of σ and κ_pool runs from 0.5 to 0.9."""
    table = spectrum_study(PAL, ratio=0.2, members=40, graphs=6, critical_members=0, seed=0)
    found = [rank_correlation(table, f"F2b-{graph}", "kappa_pool", "sigma_min_logits") for graph in range(1, 7)]
    assert min(found) < 0.6
    assert max(found) > 0.85


# --- tagwise --------------------------------------------------------------------------------------------------------


def test_the_tagwise_grid_has_its_measured_residuals():
    table = tagwise_study(PAL, ratios=[1.0, 0.2, 0.1], shares=[0.0, 0.5, 0.9, 1.0])
    assert (table["certified_gap"] < 1e-9).all()
    matching = table[table["graph"] == "matching"]
    measured = [0, 0.037, 0.033, 0, 0.038, 0.076, 0.084, 0.073, 0.046, 0.088, 0.103, 0.094]
    np.testing.assert_allclose(matching["residual"], measured, atol=6e-4)
    exact = table[table["residual"] < 1e-6]
    assert exact[["graph", "ratio", "share"]].to_numpy().tolist() == [
        ["matching", 1.0, 0.0], ["matching", 1.0, 1.0], ["bipartite", 1.0, 1.0],
    ]  # fmt: skip
    np.testing.assert_allclose(exact["delta_1"], 0, atol=1e-12)
    np.testing.assert_allclose(exact["delta_2"], [0, 1, 1], atol=1e-12)


# --- synthetic ------------------------------------------------------------------------------------------------------


def test_bounds_hold_on_synthetic_labels_and_correlations_lower_the_spectrum_of_pairs():
    strengths = [0.0, 0.5, 2.0]
    table = synthetic_study(
        PAL, scale=replace(REFERENCE, classes=6), ratios=[1.0, 0.2], strengths=strengths, lambdas=[0.02, 0.25], draws=2,
        seed=3,
    )  # fmt: skip
    assert table["certified"].all()
    assert (table["bound_ratio"] <= 1 + 1e-12).all()
    assert (table["law"] <= table["sigma_min_predictions"] + 1e-9).all()
    assert (table["geometry_bound"] <= table["geometry_sigma"] + 1e-9).all()
    for _, path in table.groupby(["ratio", "draw", "lambda"]):
        assert path["strength"].tolist() == strengths
        assert path["kappa_2"].is_monotonic_decreasing
        assert len(set(path["kappa_1"])) == 1
    independent = table[table["strength"] == 0]
    draws = [rows.drop(columns="draw").reset_index(drop=True) for _, rows in independent.groupby("draw")]
    pd.testing.assert_frame_equal(*draws)
    np.testing.assert_allclose(independent.loc[independent["ratio"] == 1, "bound_ratio"], 1, rtol=1e-8)
    assert set(table.loc[table["lambda"] == 0.02, "rank"]) == {5}
    assert table.loc[table["lambda"] == 0.25, "rank"].min() < 5

"""Every outcome of every rule, on tables made to have it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ncpipe.errors import InputError
from ncpipe.experiment.setting import settings_from_config
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.laws import Law
from ncpipe.report.claims import CLAIMS, Tables, control_table, decide, write_claims
from ncpipe.report.evidence import MINIMUM_SEEDS
from ncpipe.results.tables import METRICS, OPTIMUM, SYNTHESIS
from ncpipe.results.theory_file import Bound, LabelSpectrum, Reference, Theory

SETTINGS = {
    "balanced": {"profile": "balanced"},
    "step": {"profile": "step", "ratio": 0.1},
    "equal-steps": {"profile": "step", "ratio": 0.1, "budget": "steps"},
    "uniform": {"profile": "uniform", "ratio": 0.5},
    "exponential": {"profile": "exponential", "ratio": 0.1},
}
WOBBLE = np.array([-1.0, 0.4, 0.0, 0.9, -0.3])  # mean 0, standard deviation 0.73
FIVE = ("nc1", "nc2_w", "nc2_h", "nc3", "angle")


def metric(name, values, *, setting="balanced", dataset="digits", network="cnn", epochs=(0, 9)):
    """Rows of one metric at the last epoch, one value a seed; the first epoch holds other values."""
    m = 2 if name in ("angle", "tagwise_residual") else np.nan
    return [
        (dataset, setting, network, seed, epoch, "train", name, "", m, value + (0 if epoch == epochs[-1] else 5))
        for seed, value in enumerate(values)
        for epoch in epochs
    ]


RAW = {"target": "raw", "lambda_w": 0.1, "lambda_h": 0.1, "lambda_b": 0.0, "bias": False}


def theory(setting="balanced", *, delta=0.0, ratio=0.95, right=0.9, residual=0.0, counts=(10, 10, 10, 4, 4, 4)):
    label_sets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    distribution = LabelDistribution.from_counts(dict(zip(label_sets, counts, strict=True)), 3)
    nothing = np.empty(0)
    entry = Theory(
        distribution=distribution,
        natural=distribution,
        objective=Objective.from_config(RAW),
        references={"convex": Reference(0.5, 0.5, True, nothing, nothing, nothing, nothing)},
        spectra=tuple(LabelSpectrum(m, d, nothing, nothing, ()) for m, d in ((1, delta), (2, None), (None, delta))),
        bound=Bound(ratio * 0.5, ratio, ""),
        spectral_laws=(Law(None, 1.0, right),),
        tagwise={2: residual},
        synthesis=[],
        digest="",
    )
    return {("digits", setting, "pal"): entry}


def tables(*, metrics=(), synthesis=(), optimum=(), theory_results=None, settings=SETTINGS, **studies):
    def frame(rows, columns):
        return pd.DataFrame(list(rows), columns=list(columns))

    return Tables(
        metrics=frame(metrics, METRICS),
        synthesis=frame(synthesis, SYNTHESIS),
        optimum=frame(optimum, OPTIMUM),
        theory=theory_results or {},
        settings=settings_from_config(settings),
        objectives={"cnn": "pal", "mlp": "pal"},
        **studies,
    )


# --- claim 1 -----------------------------------------------------------------------------------------------------


def fits(
    fitted, uniform, permuted, *, gamma=(0.5,), network="cnn", identified=True, setting="exponential", spread=0.02
):
    rows = []
    for hypothesis, values in (("fitted", fitted), ("uniform", uniform), ("permuted", permuted)):
        for seed, value in enumerate(np.atleast_1d(values)):
            g = np.broadcast_to(gamma, np.shape(np.atleast_1d(values)))[seed]
            low, high = g - spread, g + spread
            reason = "" if identified else "equal counts"
            key = ("digits", setting, network, np.nan if network == "optimum" else seed, "centred")
            rows.append((*key, "multiplicity_one", 2, hypothesis, g, low, high, value, value, identified, reason))
    return rows


def uniform_of(count=5):
    return np.full(count, 0.10)


@pytest.mark.parametrize(
    ("reductions", "permuted", "expected"),
    [
        (0.40 + 0.02 * WOBBLE, 0.0, "supported"),
        (0.05 + 0.02 * WOBBLE, 0.0, "contradicted"),
        (0.20 + 0.30 * WOBBLE, 0.0, "undecided"),  # the interval spans both
        (0.15 + 0.10 * WOBBLE, 0.0, "undecided"),  # above 0, yet below 20 %
        (0.40 + 0.02 * WOBBLE, 0.40, "undecided"),  # permuted counts do as well
        ((0.40 + 0.02 * WOBBLE)[:4], 0.0, "undecided"),  # four seeds
        ((0.40 + 0.02 * WOBBLE)[:1], 0.0, "undecided"),  # one seed
    ],
)
def test_claim_1a_in_networks(reductions, permuted, expected):
    uniform = uniform_of(len(reductions))
    rows = fits(uniform * (1 - reductions), uniform, uniform * (1 - permuted))
    verdict = CLAIMS["1a"].decide(tables(synthesis=rows), "networks")
    assert verdict.verdict == expected
    assert verdict.value == pytest.approx(np.mean(reductions))
    if len(reductions) < 5:
        assert "at least 5" in verdict.reason
    elif permuted:
        assert "control" in verdict.reason


@pytest.mark.parametrize(
    ("fitted", "permuted", "expected"),
    [(0.07, 0.1, "supported"), (0.09, 0.1, "contradicted"), (0.07, 0.07, "undecided")],
)
def test_claim_1a_at_the_optimum(fitted, permuted, expected):
    verdict = CLAIMS["1a"].decide(tables(synthesis=fits(fitted, 0.1, permuted, network="optimum")), "optimum")
    assert verdict.verdict == expected
    assert verdict.value == pytest.approx(1 - fitted / 0.1)
    assert verdict.files == ("collapse/synthesis.csv",)


@pytest.mark.parametrize("claim", [CLAIMS["1a"].decide, CLAIMS["1b"].decide])
@pytest.mark.parametrize("where", ["optimum", "networks"])
def test_claim_1_needs_the_exponential_profile(claim, where):
    network = "optimum" if where == "optimum" else "cnn"
    rows = fits(uniform_of(), uniform_of(), uniform_of(), setting="step", network=network)
    verdict = claim(tables(synthesis=rows), where)
    assert verdict.verdict == "undecided"
    assert "exponential" in verdict.reason


@pytest.mark.parametrize("claim", [CLAIMS["1a"].decide, CLAIMS["1b"].decide])
def test_claim_1_says_not_identified(claim):
    rows = fits(uniform_of(), uniform_of(), uniform_of(), identified=False)
    verdict = claim(tables(synthesis=rows), "networks")
    assert verdict.verdict == "undecided"
    assert "not identified: equal counts" in verdict.reason


@pytest.mark.parametrize("claim", [CLAIMS["1a"].decide, CLAIMS["1b"].decide])
def test_claim_1_is_not_held_up_by_one_unidentified_run_of_another_network(claim):
    decisive = fits(0.5 * uniform_of(), uniform_of(), uniform_of(), gamma=0.5 + 0.02 * WOBBLE)
    alone = fits([0.1], [0.1], [0.1], network="mlp", identified=False)
    assert claim(tables(synthesis=decisive + alone), "networks").verdict == "supported"


def test_claim_1a_without_the_control_is_undecided():
    rows = [row for row in fits(0.5 * uniform_of(), uniform_of(), uniform_of()) if row[7] != "permuted"]
    verdict = CLAIMS["1a"].decide(tables(synthesis=rows), "networks")
    assert verdict.verdict == "undecided"
    assert "permuted" in verdict.reason


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (0.5 + 0.02 * WOBBLE, "supported"),
        (-0.05 + 0.02 * WOBBLE, "contradicted"),
        (0.1 + 0.02 * WOBBLE, "undecided"),
        ((0.5 + 0.02 * WOBBLE)[:1], "undecided"),
    ],
)
def test_claim_1b_in_networks(gamma, expected):
    uniform = uniform_of(len(gamma))
    verdict = CLAIMS["1b"].decide(tables(synthesis=fits(uniform, uniform, uniform, gamma=gamma)), "networks")
    assert verdict.verdict == expected
    assert verdict.value == pytest.approx(np.mean(gamma))


@pytest.mark.parametrize(("gamma", "expected"), [(0.5, "supported"), (-0.05, "contradicted"), (0.11, "undecided")])
def test_claim_1b_at_the_optimum_uses_the_interval_over_label_sets(gamma, expected):
    rows = fits(0.1, 0.1, 0.1, gamma=(gamma,), network="optimum")
    verdict = CLAIMS["1b"].decide(tables(synthesis=rows), "optimum")
    assert verdict.verdict == expected
    assert (verdict.low, verdict.high) == pytest.approx((gamma - 0.02, gamma + 0.02))


def test_claim_1b_at_the_optimum_without_an_interval_is_undecided():
    rows = fits(0.1, 0.1, 0.1, network="optimum", spread=np.nan)
    assert CLAIMS["1b"].decide(tables(synthesis=rows), "optimum").verdict == "undecided"


# --- claim 2 -----------------------------------------------------------------------------------------------------


def study(noise, *, families=("F1", "F2", "F2b"), members=200):
    rng = np.random.Generator(np.random.PCG64(0))
    frames = []
    for family in families:
        kappa = rng.random(members)
        response = kappa + noise.get(family, 0.0) * rng.standard_normal(members)
        columns = {"family": family, "member": np.arange(members).astype(str), "kappa_1": 0.1, "kappa_2": 0.2}
        responses = {"sigma_min_logits": response, "margin": rng.random(members), "lambda_critical": response}
        frames.append(pd.DataFrame({**columns, "kappa_pool": kappa, **responses}))
    return pd.concat(frames)


@pytest.mark.parametrize(
    ("noise", "expected"),
    [({}, "supported"), ({"F2": 100.0}, "contradicted"), ({"F2": 0.35}, "undecided")],
)
def test_claim_2_looks_at_every_family(noise, expected):
    verdict = CLAIMS["2"].decide(tables(spectrum_study=study(noise)), "optimum")
    assert verdict.verdict == expected
    assert "κ_pool" in verdict.statistic
    # κ_1 is constant and the margin is noise: shown, and not what the verdict rests on.
    shown = [e for e in verdict.evidence if not e.decides]
    assert any("constant" in e.reason for e in shown)
    assert any("margin" in e.statistic for e in shown)


def test_claim_2_with_three_members_is_undecided():
    verdict = CLAIMS["2"].decide(tables(spectrum_study=study({}, members=3)), "optimum")
    assert verdict.verdict == "undecided"
    assert "at least 4" in verdict.reason


def test_claim_2_without_the_study_says_so():
    assert "not computed in this run" in CLAIMS["2"].decide(tables(), "optimum").reason
    assert CLAIMS["2"].decide(tables(spectrum_study=study({})), "networks").verdict == "undecided"


# --- claim 3 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "supported"),
        ({"ratio": 1.0}, "supported"),
        ({"ratio": 1.001}, "contradicted"),  # above what it bounds
        ({"ratio": 0.79}, "contradicted"),  # holds, and says little
        ({"right": 1.01}, "contradicted"),  # the spectral law is violated
    ],
)
def test_claim_3_at_the_optimum(options, expected):
    verdict = CLAIMS["3"].decide(tables(theory_results=theory(**options)), "optimum")
    assert verdict.verdict == expected
    assert verdict.files == ("theory/digits/balanced/pal.json",)


def test_a_vacuous_law_is_shown_and_does_not_decide():
    verdict = CLAIMS["3"].decide(tables(theory_results=theory(right=-0.1)), "optimum")
    assert verdict.verdict == "supported"
    assert any("vacuous" in e.reason for e in verdict.evidence)


def sigma(left, right=0.9):
    return metric("prediction_sigma", left) + metric("prediction_sigma_bound", np.full(len(left), right))


@pytest.mark.parametrize(
    ("objective", "left", "expected"),
    [
        (0.5 + 0.001 * WOBBLE, 1.0 + 0.01 * WOBBLE, "supported"),
        (0.9 + 0.001 * WOBBLE, 1.0 + 0.01 * WOBBLE, "contradicted"),  # 0.475 / 0.9: holds, and says little
        (np.array([0.5, 0.5, 0.5, 0.5, 0.4]), 1.0 + 0.01 * WOBBLE, "contradicted"),  # one run below the bound
        (0.5 + 0.001 * WOBBLE, np.array([1.0, 1.0, 1.0, 1.0, 0.89]), "contradicted"),  # one run breaks the law
        (0.475 / 0.8 + 0.01 * WOBBLE, 1.0 + 0.01 * WOBBLE, "undecided"),
        ((0.5 + 0.001 * WOBBLE)[:1], np.array([1.0]), "undecided"),
    ],
)
def test_claim_3_in_networks(objective, left, expected):
    rows = metric("objective", objective) + sigma(left)
    verdict = CLAIMS["3"].decide(tables(metrics=rows, theory_results=theory()), "networks")
    assert verdict.verdict == expected


def test_claim_3_in_networks_needs_the_predictions_spectrum():
    rows = metric("objective", 0.5 + 0.001 * WOBBLE)
    verdict = CLAIMS["3"].decide(tables(metrics=rows, theory_results=theory()), "networks")
    assert verdict.verdict == "undecided"
    assert "lacks" in verdict.reason


@pytest.mark.parametrize("entry", [{"loss": "bce"}, {"class_weights": [1.0, 2.0, 1.0]}, {"classifier": "etf"}])
def test_an_objective_that_claim_3_is_not_stated_for_is_shown_and_decides_nothing(entry):
    results = theory()
    results["digits", "balanced", "other"] = replace(
        results["digits", "balanced", "pal"],
        bound=Bound(None, None, "not stated"),
        objective=Objective.from_config({**RAW, **entry}),
        spectral_laws=(),
    )
    rows = metric("objective", 0.5 + 0.001 * WOBBLE) + sigma(1.0 + 0.01 * WOBBLE)
    rows += metric("objective", 9.0 + WOBBLE, network="mlp")
    rows += [(*r[:2], "mlp", *r[3:-1], np.nan) for r in sigma(WOBBLE)]
    whole = replace(tables(metrics=rows, theory_results=results), objectives={"cnn": "pal", "mlp": "other"})
    for where in ("optimum", "networks"):
        verdict = CLAIMS["3"].decide(whole, where)
        assert verdict.verdict == "supported"
        spared = [e for e in verdict.evidence if not e.decides]
        assert spared
        assert all("other" in e.subject or "mlp" in e.subject for e in spared)


def test_claim_3_without_theory():
    assert CLAIMS["3"].decide(tables(), "optimum").verdict == "undecided"


# --- claim 4 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("residual", "expected"), [(1e-6, "supported"), (0.02, "contradicted")])
def test_claim_4a_at_the_optimum(residual, expected):
    results = theory(residual=residual) | theory("step", delta=0.8, residual=0.5)
    verdict = CLAIMS["4a"].decide(tables(theory_results=results), "optimum")
    assert verdict.verdict == expected
    assert len(verdict.evidence) == 1  # the anisotropic setting is not asked


def test_claim_4a_at_the_optimum_needs_an_isotropic_distribution():
    verdict = CLAIMS["4a"].decide(tables(theory_results=theory("step", delta=0.8)), "optimum")
    assert verdict.verdict == "undecided"
    assert "isotropic" in verdict.reason


def residual_rows(excess, setting):
    control = 0.03 + 0.001 * WOBBLE[: len(excess)]
    return metric("tagwise_residual", control) + metric("tagwise_residual", control + excess, setting=setting)


@pytest.mark.parametrize(
    ("excess", "expected_4a", "expected_4b"),
    [
        (0.0005 + 0.001 * WOBBLE, "supported", "contradicted"),
        (0.05 + 0.001 * WOBBLE, "contradicted", "supported"),
        (0.01 + 0.01 * WOBBLE, "undecided", "undecided"),
        (-0.05 + 0.001 * WOBBLE, "undecided", "undecided"),  # below the balanced runs: neither equivalent nor worse
        ((0.05 + 0.001 * WOBBLE)[:1], "undecided", "undecided"),
    ],
)
def test_claim_4_in_networks(excess, expected_4a, expected_4b):
    isotropic = tables(metrics=residual_rows(excess, "uniform"), theory_results=theory() | theory("uniform"))
    assert CLAIMS["4a"].decide(isotropic, "networks").verdict == expected_4a
    assert CLAIMS["4b"].decide(isotropic, "networks").verdict == "undecided"
    anisotropic = tables(metrics=residual_rows(excess, "step"), theory_results=theory() | theory("step", delta=0.8))
    assert CLAIMS["4b"].decide(anisotropic, "networks").verdict == expected_4b
    assert CLAIMS["4a"].decide(anisotropic, "networks").verdict == "undecided"


def grid(*rows):
    columns = ["delta_1", "delta_2", "ratio", "share", "residual", "certified_gap"]
    return pd.DataFrame(rows, columns=columns).assign(graph="matching")


ISOTROPIC = (0.0, 0.0, 1.0, 0.0, 0.0, 1e-9)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([ISOTROPIC, (0.9, 0.0, 0.1, 0.0, 0.046, 1e-9), (0.0, 0.5, 1.0, 0.5, 0.037, 1e-9)], "supported"),
        ([(0.9, 0.0, 0.1, 0.0, 0.046, 1e-9), (0.0, 1.0, 1.0, 1.0, 1e-7, 1e-9)], "contradicted"),
        ([(0.9, 0.0, 0.1, 0.0, 0.046, 1e-9), (0.0, 1.0, 1.0, 1.0, 1e-7, 0.1)], "undecided"),  # not certified
        ([(0.9, 0.0, 0.1, 0.0, 0.005, 1e-9)], "undecided"),  # neither 0 nor above the margin
        ([ISOTROPIC], "undecided"),
    ],
)
def test_claim_4b_at_the_optimum(rows, expected):
    assert CLAIMS["4b"].decide(tables(tagwise_study=grid(*rows)), "optimum").verdict == expected


def test_claim_4b_without_the_grid_says_so():
    assert "not computed in this run" in CLAIMS["4b"].decide(tables(), "optimum").reason


# --- claim 5 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "variation", "expected"),
    [
        (0.003 + 0.0005 * WOBBLE, 0.03 + 0.001 * WOBBLE, "supported"),
        (0.005 + 0.0005 * WOBBLE, 0.03 + 0.001 * WOBBLE, "undecided"),
        (0.05 + 0.0005 * WOBBLE, 0.05 + 0.001 * WOBBLE, "undecided"),  # a large gap alone contradicts nothing
        (0.05 + 0.0005 * WOBBLE, 0.2 + 0.001 * WOBBLE, "contradicted"),
        (0.05 + 0.0005 * WOBBLE, 0.1 + 0.01 * WOBBLE, "undecided"),
        ((0.003 + 0.0005 * WOBBLE)[:1], np.array([0.2]), "undecided"),
    ],
)
def test_claim_5_in_networks(gap, variation, expected):
    rows = metric("gap_reference", gap) + metric("total_variation", variation)
    verdict = CLAIMS["5"].decide(tables(metrics=rows), "networks")
    assert verdict.verdict == expected


def test_claim_5_has_nothing_to_say_at_the_optimum_or_without_its_metric():
    assert "about training" in CLAIMS["5"].decide(tables(), "optimum").reason
    assert "gap_reference" in CLAIMS["5"].decide(tables(), "networks").reason


# --- claim 6 -----------------------------------------------------------------------------------------------------


def five(ratios, *, setting="step", dataset="digits", network="cnn", seeds=5):
    rows = []
    for name, ratio in zip(FIVE, ratios, strict=True):
        control = 0.1 * np.exp(0.05 * WOBBLE[:seeds])
        treated = control * np.exp(ratio + 0.05 * WOBBLE[::-1][:seeds])
        rows += metric(name, control, dataset=dataset, network=network)
        rows += metric(name, treated, setting=setting, dataset=dataset, network=network)
    return rows


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.5] * 5, "supported"),
        ([0.5, 0.5, -0.5, 0.5, 0.5], "contradicted"),
        ([0.5, 0.5, 0.0, 0.5, 0.5], "undecided"),
    ],
)
def test_claim_6_in_networks(ratios, expected):
    verdict = CLAIMS["6"].decide(tables(metrics=five(ratios)), "networks")
    assert verdict.verdict == expected
    assert len(verdict.evidence) == 5
    assert verdict.value == pytest.approx(min(ratios), abs=1e-12)
    if expected != "supported":
        assert "NC2-H" in verdict.reason


def test_claim_6_needs_every_data_set():
    rows = five([0.5] * 5) + five([0.5, 0.5, 0.5, 0.5, -0.4], dataset="mnist")
    assert CLAIMS["6"].decide(tables(metrics=rows), "networks").verdict == "contradicted"


def test_claim_6_leaves_the_equal_steps_control_out():
    rows = five([0.5] * 5) + [r for r in five([-0.5] * 5, setting="equal-steps") if r[1] == "equal-steps"]
    assert CLAIMS["6"].decide(tables(metrics=rows), "networks").verdict == "supported"
    shown = control_table(tables(metrics=rows))
    control = shown[(shown["setting"] == "equal-steps") & (shown["variant"] == "definition")]
    np.testing.assert_allclose(control["value"].astype(float), -0.5, atol=1e-12)
    assert not control["decides"].any()


def test_claim_6_pairs_by_seed_and_not_by_order():
    rows = five([0.5] * 5)
    shuffled = [rows[i] for i in np.random.Generator(np.random.PCG64(0)).permutation(len(rows))]
    first, second = (CLAIMS["6"].decide(tables(metrics=r), "networks") for r in (rows, shuffled))
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_a_network_with_one_seed_is_shown_and_does_not_decide():
    alone = CLAIMS["6"].decide(tables(metrics=five([0.5] * 5, seeds=1)), "networks")
    assert alone.verdict == "undecided"
    assert "1 seed; at least 5" in alone.reason
    rows = five([0.5] * 5) + five([-0.5] * 5, network="mlp", seeds=1)
    beside = CLAIMS["6"].decide(tables(metrics=rows), "networks")
    assert beside.verdict == "supported"
    assert "5 entries shown only" in beside.reason


def test_claim_6_with_a_metric_missing_or_not_positive_is_undecided():
    without = [row for row in five([0.5] * 5) if row[6] != "angle"]
    verdict = CLAIMS["6"].decide(tables(metrics=without), "networks")
    assert verdict.verdict == "undecided"
    assert "lacks" in verdict.reason
    zero = [(*row[:-1], 0.0) if row[6] == "angle" and row[1] == "balanced" else row for row in five([0.5] * 5)]
    assert CLAIMS["6"].decide(tables(metrics=zero), "networks").verdict == "undecided"


def test_claim_6_variants_read_their_own_rows():
    rows = five([0.5] * 5)
    rows += [(*r[:7], "li2024", *r[8:-1], 0.01 if r[1] == "step" else 1.0) for r in rows if r[6] == "nc3"]
    rows = [(*r[:7], "definition", *r[8:]) if r[6] == "nc3" and r[7] == "" else r for r in rows]
    assert CLAIMS["6"].decide(tables(metrics=rows), "networks").verdict == "supported"
    assert CLAIMS["6-li2024"].decide(tables(metrics=rows), "networks").verdict == "contradicted"


def test_seeds_that_end_at_different_epochs_are_refused():
    rows = [row for row in five([0.5] * 5) if (row[3], row[4]) != (2, 9)]
    with pytest.raises(InputError, match="seeds end at epochs 0 to 9"):
        CLAIMS["6"].decide(tables(metrics=rows), "networks")


def optimum_rows(changes):
    rows = []
    for setting, values in (("balanced", [0.0] * 5), ("step", changes)):
        for name, value in zip(FIVE, values, strict=True):
            m = 2 if name == "angle" else np.nan
            rows.append(("digits", setting, "pal", "convex", name, "", m, value))
            rows.append(("digits", setting, "pal", "relu", name, "", m, -9.0))
    return rows


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([0.1, 0.2, 0.2, 0.1, 0.1], "supported"),
        ([0.1, 0.2, -0.2, 0.1, 0.1], "contradicted"),
        ([0.0, 0.2, 0.2, 0.1, 0.1], "undecided"),  # NC1 is 0 at every optimum
        ([np.nan, 0.2, 0.2, 0.1, 0.1], "undecided"),
    ],
)
def test_claim_6_at_the_optimum(changes, expected):
    assert CLAIMS["6"].decide(tables(optimum=optimum_rows(changes)), "optimum").verdict == expected


def test_claim_6_without_a_balanced_setting():
    only = {"step": SETTINGS["step"]}
    verdict = CLAIMS["6"].decide(tables(settings=only), "networks")
    assert verdict.verdict == "undecided"
    assert "balanced" in verdict.reason


# --- Li's claims -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (0.04 + 0.01 * WOBBLE, "supported"),
        (0.3 + 0.01 * WOBBLE, "contradicted"),
        (0.1 + 0.01 * WOBBLE, "undecided"),
        (np.array([0.04]), "undecided"),
    ],
)
def test_li_1_in_networks(values, expected):
    rows = metric("nc2_h", values) + metric("nc2_h", values + 9, setting="step")
    results = theory() | theory("step", counts=(10, 10, 1, 4, 4, 4))
    verdict = CLAIMS["Li1"].decide(tables(metrics=rows, theory_results=results), "networks")
    assert verdict.verdict == expected
    assert verdict.value == pytest.approx(np.mean(values))  # the imbalanced setting is not asked


def test_li_2_needs_the_angle_and_the_residual():
    small, large = 0.02 + 0.001 * WOBBLE, 0.3 + 0.001 * WOBBLE
    for residual, expected in ((small, "supported"), (large, "contradicted")):
        rows = metric("angle", small) + metric("tagwise_residual", residual)
        verdict = CLAIMS["Li2"].decide(tables(metrics=rows, theory_results=theory()), "networks")
        assert verdict.verdict == expected


@pytest.mark.parametrize(("value", "expected"), [(1e-7, "supported"), (0.02, "contradicted")])
def test_li_1_at_the_optimum(value, expected):
    rows = [("digits", "balanced", "pal", "convex", "nc2_h", "definition", np.nan, value)]
    assert CLAIMS["Li1"].decide(tables(optimum=rows, theory_results=theory()), "optimum").verdict == expected


@pytest.mark.parametrize("claim", ["Li1", "Li2"])
def test_a_metric_that_is_not_defined_at_the_optimum_decides_nothing(claim):
    names = {"Li1": ("nc2_h",), "Li2": ("angle", "tagwise_residual")}[claim]
    m = np.nan if claim == "Li1" else 2
    rows = [("digits", "balanced", "pal", "convex", name, "definition", m, np.nan) for name in names]
    verdict = CLAIMS[claim].decide(tables(optimum=rows, theory_results=theory()), "optimum")
    assert verdict.verdict == "undecided"
    assert "not defined at this optimum" in verdict.reason


def test_label_sets_that_never_occur_are_not_balanced():
    results = theory()
    key = ("digits", "balanced", "pal")
    counts = results[key].distribution.as_counts()
    del counts[1, 2]
    results[key] = replace(results[key], distribution=LabelDistribution.from_counts(counts, 3))
    verdict = CLAIMS["Li1"].decide(tables(theory_results=results), "optimum")
    assert verdict.verdict == "undecided"


# --- all of them -------------------------------------------------------------------------------------------------


def read(results, **studies):
    objectives = {name: network["objective"] for name, network in results.networks.items()}
    return Tables.read(
        metrics=results.metrics,
        synthesis=results.synthesis,
        optimum=results.optimum,
        theory=results.theory,
        settings=results.settings,
        objectives=objectives,
        **studies,
    )


def test_every_claim_is_decided_in_both_places(results):
    verdicts = decide(read(results))
    assert [(v.claim, v.where) for v in verdicts] == [(c, w) for c in CLAIMS for w in ("optimum", "networks")]
    for v in verdicts:
        assert v.verdict != "undecided" or v.reason
        assert v.statement == CLAIMS[v.claim].statement
    found = {(v.claim, v.where): v.verdict for v in verdicts}
    assert found["1b", "networks"] == "contradicted"
    assert found["6", "networks"] == "supported"
    assert found["4a", "optimum"] == "supported"


def test_files_hold_the_verdicts_and_the_same_bytes_twice(results, tmp_path):
    tables = read(results)
    for turn in ("a", "b"):
        verdicts = write_claims(tables, tmp_path / turn / "claims.json", tmp_path / turn / "claims.csv")
    for name in ("claims.json", "claims.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    stored = json.loads((tmp_path / "a/claims.json").read_text())
    assert [c["verdict"] for c in stored["claims"]] == [v.verdict for v in verdicts]
    assert stored["controls"]
    with (tmp_path / "a/claims.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["claim"], r["where"], r["verdict"]) for r in rows] == [(v.claim, v.where, v.verdict) for v in verdicts]
    assert {f for r in rows for f in r["files"].split("; ") if f.startswith("collapse")} == {
        "collapse/metrics.csv",
        "collapse/synthesis.csv",
        "collapse/optimum.csv",
    }


def test_studies_are_read_when_they_are_there(results, tmp_path):
    study({}).to_csv(tmp_path / "spectrum.csv", index=False)
    grid((0.0, 1.0, 1.0, 1.0, 0.0, 1e-9)).to_csv(tmp_path / "tagwise.csv", index=False)
    tables = read(results, spectrum_study=tmp_path / "spectrum.csv", tagwise_study=tmp_path / "tagwise.csv")
    found = {(v.claim, v.where): v.verdict for v in decide(tables)}
    assert found["2", "optimum"] == "supported"
    assert found["4b", "optimum"] == "contradicted"


def test_an_optimum_that_is_not_certified_decides_nothing():
    results = theory(residual=1e-6) | theory("exponential", delta=0.8) | theory("step", delta=0.8)
    for key, entry in results.items():
        uncertified = replace(entry.references["convex"], certified=False)
        results[key] = replace(entry, references={"convex": uncertified})
    rows = fits(0.07, 0.1, 0.1, network="optimum")
    optimum = [*optimum_rows([0.1, 0.2, 0.2, 0.1, 0.1])]
    given = tables(synthesis=rows, optimum=optimum, theory_results=results)
    for rule in (
        CLAIMS["1a"].decide,
        CLAIMS["1b"].decide,
        CLAIMS["4a"].decide,
        CLAIMS["6"].decide,
        CLAIMS["Li1"].decide,
        CLAIMS["Li2"].decide,
    ):
        verdict = rule(given, "optimum")
        assert verdict.verdict == "undecided"
        assert "not certified" in verdict.reason


def test_a_bound_that_is_not_available_says_why():
    results = theory()
    key = ("digits", "balanced", "pal")
    results[key] = replace(results[key], bound=Bound(None, None, "no law for it"))
    for where in ("optimum", "networks"):
        verdict = CLAIMS["3"].decide(
            tables(metrics=metric("objective", 0.5 + 0.001 * WOBBLE), theory_results=results), where
        )
        assert verdict.verdict == "undecided"
        assert any("no law for it" in e.reason or "not available" in e.reason for e in verdict.evidence)


def test_nothing_at_all_is_undecided_everywhere():
    assert {v.verdict for v in decide(tables())} == {"undecided"}
    assert {v.verdict for v in decide(replace(tables(), settings={}))} == {"undecided"}


def test_the_rules_ask_for_five_seeds():
    assert MINIMUM_SEEDS == 5

"""Every figure, from synthetic tables: files, the numbers behind them, their bytes, and what is missing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ncpipe.errors import InputError
from ncpipe.experiment.plan import STUDIES
from ncpipe.experiment.setting import settings_from_config
from ncpipe.figures.bookkeeping import bookkeeping
from ncpipe.figures.catalogue import FIGURES, figure_stems
from ncpipe.figures.draw import FUNCTIONS, draw
from ncpipe.figures.dynamics import dynamics
from ncpipe.figures.exponents import exponents
from ncpipe.figures.final import final
from ncpipe.figures.gap import gap
from ncpipe.figures.readings import readings
from ncpipe.figures.spectrum import contrast_name, spectrum
from ncpipe.figures.study_critical import study_critical
from ncpipe.figures.study_phase import study_phase
from ncpipe.figures.study_ratios import study_ratios
from ncpipe.figures.study_spectrum import study_spectrum
from ncpipe.figures.style import STYLE_FILE, house_style, looks
from ncpipe.figures.synthesis import synthesis
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.results.tables import CRITICAL_STUDY, METRICS, OPTIMUM, PHASE_STUDY, RATIOS_STUDY, SYNTHESIS, read_table
from ncpipe.results.theory_file import LabelSpectrum, read_theories
from ncpipe.stores.files import check_result
from ncpipe.theory.studies import write_study

STUDY = pd.DataFrame(
    {
        "family": ["F1"] * 9 + ["F2"] * 9,
        "member": [str(i) for i in range(18)],
        "kappa_1": 0.1,
        "kappa_2": 0.2,
        "kappa_pool": np.linspace(0.01, 0.1, 18),
        "sigma_min_predictions": np.sqrt(np.linspace(0.01, 0.1, 18)),
        "sigma_min_logits": np.linspace(0.1, 1, 18) ** 2,
        "margin": np.cos(np.arange(18)),
        "lambda_critical": np.linspace(0.1, 0.3, 18),
    }
)
GRID = pd.DataFrame(
    [(0.0, e, 1.0, "matching", e, v, 1e-9) for e, v in ((0.0, 0.0), (0.5, 0.037), (1.0, 0.0))]
    + [(0.8, e, 0.2, "matching", e, v, 1e-9) for e, v in ((0.0, 0.038), (0.5, 0.076), (1.0, 0.073))]
    + [(d, 1.0, r, "bipartite", 1.0, v, 1e-9) for d, r, v in ((0.0, 1.0, 0.0), (0.8, 0.2, 0.03))],
    columns=["delta_1", "delta_2", "ratio", "graph", "share", "residual", "certified_gap"],
)
# Studies as the theory stage makes them, of four classes.
TINY = {
    "phase": {
        "ratios": {"low": 0.01, "high": 1.0, "points": 3},
        "lambdas": {"low": 0.05, "high": 1.0, "points": 4},
        "per_pair": [0, 1, 4],
    },
    "critical": {"ratios": [1.0, 0.1], "per_pair": [4]},
    "ratios": {"ratios": [1.0, 0.1]},
    "synthetic": {"ratios": [1.0, 0.2], "strengths": [0.0, 1.0], "lambdas": [0.05, 0.3], "draws": 2, "seed": 0},
}
PAL = {"target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.256, "lambda_b": 5e-4, "bias": True}
NAMES = {
    "network": "mlp",
    "objective": "pal",
    "variant": "definition",
    "networks": {"mlp": "pal"},
}


@pytest.fixture(scope="module")
def frames(results):
    """Tables of one data set: half the panels, half the time."""

    def one(frame):
        return frame[frame["dataset"] == "mlab_digits"]

    return {
        "metrics": one(read_table(results.metrics, METRICS)),
        "optimum": one(read_table(results.optimum, OPTIMUM)),
        "synthesis": one(read_table(results.synthesis, SYNTHESIS)),
        "theory": {key: value for key, value in read_theories(results.theory).items() if key[0] == "mlab_digits"},
        "settings": settings_from_config(results.settings),
    }


@pytest.fixture(scope="module")
def files(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    STUDY.to_csv(folder / "spectrum.csv", index=False)
    GRID.to_csv(folder / "tagwise.csv", index=False)
    for name, parameters in TINY.items():
        settings = {"objective": PAL, "labels": {"classes": 4, "counts": [31, 4]}, "parameters": parameters}
        write_study(name, settings, folder / f"{name}.csv")
    return {
        "metrics": results.metrics,
        "optimum": results.optimum,
        "synthesis": results.synthesis,
        "theory": results.theory,
        **{f"{path.stem}_study": path for path in folder.glob("*.csv")},
    }


@pytest.mark.parametrize("figure", FUNCTIONS)
def test_every_figure_is_three_files_with_digests_and_the_same_bytes_each_time(figure, files, results, tmp_path):
    for turn in ("a", "b"):
        draw(figure, tmp_path / turn / figure, settings=results.settings, files=files, names=NAMES)
    written = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert written == sorted(f"{figure}.{kind}{end}" for kind in ("svg", "png", "csv") for end in ("", ".sha256"))
    for kind in ("svg", "png", "csv"):
        check_result(tmp_path / "a" / f"{figure}.{kind}")
    for name in written:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    svg = (tmp_path / "a" / f"{figure}.svg").read_text()
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    assert not root.findall(".//{*}image")  # vectors only
    assert not re.search(r"<dc:date>|20\d\d-\d\d-\d\dT", svg)
    assert (tmp_path / "a" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert b"NaN" not in (tmp_path / "a" / f"{figure}.csv").read_bytes()
    assert len(pd.read_csv(tmp_path / "a" / f"{figure}.csv")) > 0


def test_the_catalogue_is_what_can_be_drawn_and_what_functions_take():
    import inspect

    assert [figure.name for figure in FIGURES] == list(FUNCTIONS)
    for figure in FIGURES:
        parameters = inspect.signature(FUNCTIONS[figure.name]).parameters
        taken = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY and name != "settings"]
        if figure.per == "study":
            assert taken == ["study"]
        else:
            assert taken == [table.removesuffix("_study") for table in figure.tables]


def test_the_order_of_the_page_is_that_of_the_catalogue():
    stems = figure_stems(["mlp", "ufm", "cnn"], ["mlp", "cnn"], ["spectrum"])
    assert stems == [
        "dynamics-mlp-definition",
        "final-mlp-definition",
        "dynamics-cnn-definition",
        "final-cnn-definition",
        "dynamics-mlp-li2024",
        "final-mlp-li2024",
        "dynamics-cnn-li2024",
        "final-cnn-li2024",
        "bookkeeping",
        "readings",
        "spectrum",
        "gap-mlp",
        "gap-ufm",
        "gap-cnn",
        "synthesis-mlp",
        "exponents-mlp",
        "synthesis-cnn",
        "exponents-cnn",
        "study-spectrum",
    ]


def test_dynamics_draws_the_geometric_mean_with_its_t_interval(frames):
    _, drawn = dynamics(frames["metrics"], frames["settings"], network="cnn", variant="definition")
    table = frames["metrics"]
    here = table[
        (table["dataset"] == "mlab_digits")
        & (table["setting"] == "step-0.1")
        & (table["network"] == "cnn")
        & (table["metric"] == "nc1")
        & (table["variant"] == "definition")
        & (table["epoch"] == 16)
    ]
    logs = np.log(here["value"].to_numpy())
    low, high = stats.t.interval(0.95, 4, loc=logs.mean(), scale=stats.sem(logs))
    row = drawn[
        (drawn["dataset"] == "mlab_digits")
        & (drawn["setting"] == "step-0.1")
        & (drawn["metric"] == "nc1")
        & (drawn["epoch"] == 16)
    ].iloc[0]
    np.testing.assert_allclose([row["value"], row["low"], row["high"]], np.exp([logs.mean(), low, high]))
    assert row["seeds"] == 5
    assert "step-0.1-equal-steps" not in set(drawn["setting"])


def test_the_table_holds_the_very_numbers_drawn(frames, monkeypatch):
    from matplotlib.axes import Axes

    plotted = []
    monkeypatch.setattr(
        Axes, "plot", lambda self, *a, _plot=Axes.plot, **k: plotted.append(np.asarray(a[1])) or _plot(self, *a, **k)
    )
    _, drawn = dynamics(frames["metrics"], frames["settings"], network="cnn", variant="li2024")
    np.testing.assert_array_equal(np.sort(np.concatenate(plotted)), np.sort(drawn["value"].to_numpy()))


def test_variants_draw_their_own_rows(frames):
    drawn = {
        v: dynamics(frames["metrics"], frames["settings"], network="cnn", variant=v)[1]
        for v in ("definition", "li2024")
    }
    ratio = drawn["li2024"]["value"] / drawn["definition"]["value"]
    np.testing.assert_allclose(ratio[drawn["definition"]["metric"] == "nc3"], 1.3)
    np.testing.assert_allclose(ratio[drawn["definition"]["metric"] == "angle"], 1.0)


def test_bars_stand_at_the_last_epoch_beside_both_optima(frames):
    _, drawn = final(
        frames["metrics"],
        frames["optimum"],
        frames["settings"],
        network="mlp",
        objective="pal",
        variant="definition",
    )
    drawn = drawn.set_index(["dataset", "setting", "metric"])
    row = drawn.loc[("mlab_digits", "step-0.2", "nc2_w")]
    assert row["optimum_convex"] == pytest.approx(0.16)
    assert row["optimum_relu"] == pytest.approx(0.20)
    table = frames["metrics"]
    last = table[
        (table["epoch"] == 80)
        & (table["dataset"] == "mlab_digits")
        & (table["setting"] == "step-0.2")
        & (table["network"] == "mlp")
        & (table["metric"] == "nc2_w")
    ]
    assert row["value"] == pytest.approx(last["value"].mean())
    assert "step-0.1-equal-steps" in drawn.index.get_level_values("setting")


def test_one_seed_is_drawn_without_an_interval(frames):
    _, drawn = final(
        frames["metrics"],
        frames["optimum"],
        frames["settings"],
        network="ufm",
        objective="pal",
        variant="definition",
    )
    assert drawn["value"].notna().all()
    assert drawn["low"].isna().all()


def test_spectrum_names_the_weakest_contrast_and_draws_equal_labels_once(frames):
    _, drawn = spectrum(frames["theory"], frames["settings"])
    assert set(drawn["setting"]) == set(frames["settings"]) - {"step-0.1-equal-steps"}
    ends = drawn[(drawn["index"] == 5) & (drawn["dataset"] == "mlab_digits")].set_index(["setting", "spectrum"])
    assert ends.loc[("balanced", "1"), "weakest"] == "all contrasts alike"
    assert "class 5" in ends.loc[("step-0.1", "pooled"), "weakest"]
    pooled = frames["theory"]["mlab_digits", "step-0.1", "pal"].spectra[-1]
    assert ends.loc[("step-0.1", "pooled"), "eigenvalue"] == pooled.eigenvalues[-1]


def test_two_eigenvalues_of_very_many_classes_are_the_first_and_the_last(frames):
    ends = {"anisotropy": 0.5, "eigenvalues": np.array([0.2, 0.1]), "weakest": np.zeros(1000), "sides": ()}
    spectra = tuple(LabelSpectrum(multiplicity=m, **ends) for m in (1, None))
    changed = replace(frames["theory"]["mlab_digits", "balanced", "pal"], spectra=spectra)
    _, drawn = spectrum({("x", "balanced", "pal"): changed}, frames["settings"])
    assert drawn["index"].tolist() == [1, 999, 1, 999]


@pytest.mark.parametrize(
    ("sides", "name"),
    [
        ((["a"], ["b"]), "a | b"),
        ((["a", "b", "c", "d"], ["e"]), "a, b, c, … | e"),
        (([], ["e"]), "– | e"),
    ],
)
def test_contrast_names(sides, name):
    assert contrast_name(sides) == name


def test_gap_carries_both_references(frames):
    _, drawn = gap(
        frames["metrics"],
        frames["theory"],
        frames["settings"],
        network="mlp",
        objective="pal",
    )
    lines = drawn[drawn["metric"].str.startswith("reference") & (drawn["setting"] == "step-0.1")]
    references = frames["theory"]["mlab_digits", "step-0.1", "pal"].references
    expected = {f"reference_{name}": reference.objective for name, reference in references.items()}
    assert dict(zip(lines["metric"], lines["value"], strict=False)) == expected


def test_synthesis_shows_networks_beside_the_optimum(frames):
    _, drawn = synthesis(frames["synthesis"], frames["settings"], network="mlp")
    assert set(drawn["network"]) == {"mlp", "optimum"}
    assert set(drawn["seeds"]) == {1, 5}
    _, fitted = exponents(frames["synthesis"], frames["settings"], network="mlp")
    assert "balanced" not in set(fitted["setting"])  # not identified there
    table = frames["synthesis"]
    row = table[(table["network"] == "optimum") & (table["hypothesis"] == "fitted") & table["identified"]].iloc[0]
    keys = ["dataset", "setting", "basis", "frequency"]
    same = fitted[(fitted["network"] == "optimum") & (fitted[keys] == row[keys]).all(axis=1)].iloc[0]
    assert tuple(same[["value", "low", "high"]]) == tuple(row[["gamma", "gamma_low", "gamma_high"]])


def test_an_exponent_identified_nowhere_is_a_figure_that_says_so(frames):
    balanced = frames["synthesis"][frames["synthesis"]["setting"] == "balanced"]
    _, drawn = exponents(balanced, frames["settings"], network="mlp")
    assert drawn.empty


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("name", ["dynamics", "final"])
def test_an_undefined_metric_is_a_note_and_a_row_without_a_value(name, present, frames):
    table = frames["metrics"].copy()
    if present:
        table.loc[table["metric"] == "angle", "value"] = np.nan
    else:
        table = table[table["metric"] != "angle"]
    if name == "dynamics":
        figure, drawn = dynamics(table, frames["settings"], network="mlp", variant="definition")
    else:
        figure, drawn = final(
            table, frames["optimum"], frames["settings"], network="mlp", objective="pal", variant="definition"
        )
    rows = drawn[drawn["metric"] == "angle"]
    assert set(rows["setting"]) == set(drawn["setting"])
    assert rows["value"].isna().all()
    assert (rows["seeds"] == 0).all()
    assert [text.get_text() for text in figure.axes[-1].texts] == ["not defined in this run"]


@pytest.mark.parametrize("figure", ["dynamics", "final", "gap"])
def test_a_network_that_was_not_trained_is_one_clear_error(figure, files, results, tmp_path):
    with pytest.raises(InputError, match="network"):
        draw(figure, tmp_path / "x", settings=results.settings, files=files, names={**NAMES, "network": "resnet"})
    assert not list(tmp_path.iterdir())


def test_unknown_figures_and_absent_inputs_are_named(results, files, tmp_path):
    with pytest.raises(InputError, match="figure: found 'pie'; allowed: dynamics"):
        draw("pie", tmp_path / "x", settings=results.settings, files=files, names=NAMES)
    with pytest.raises(InputError, match="needs metrics, variant"):
        draw("dynamics", tmp_path / "x", settings=results.settings, files={}, names={"network": "mlp"})
    with pytest.raises(InputError, match="no result of the theory stage"):
        draw("spectrum", tmp_path / "x", settings=results.settings, files={"theory": []}, names={})
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("dataset,setting\n")
    with pytest.raises(InputError, match=r"lacking\.csv: lacks the columns network"):
        draw("dynamics", tmp_path / "x", settings=results.settings, files={"metrics": lacking}, names=NAMES)


@pytest.mark.parametrize("study", STUDIES)
def test_empty_studies_are_refused(study, files):
    empty = pd.read_csv(files[f"{study}_study"]).iloc[:0]
    with pytest.raises(InputError, match=f"study {study}: the table has no row"):
        FUNCTIONS[f"study-{study}"](empty)


def test_families_show_the_rank_correlation_of_each():
    table = pd.concat([STUDY, STUDY.assign(family=STUDY["family"].replace({"F1": "F2b-1", "F2": "F2b-2"}))])
    _, drawn = study_spectrum(table)
    assert set(drawn["family"]) == {"F1", "F2", "F2b-1", "F2b-2"}
    here = drawn[(drawn["family"] == "F2") & (drawn["response"] == "margin")]
    members = STUDY[STUDY["family"] == "F2"]
    np.testing.assert_array_equal(here["value"], members["margin"])
    assert here["rho"].iloc[0] == pytest.approx(stats.spearmanr(members["kappa_pool"], members["margin"]).statistic)


def test_a_response_without_values_says_so():
    _, drawn = study_spectrum(STUDY.assign(lambda_critical=np.nan))
    assert "lambda_critical" not in set(drawn["response"])


def test_points_without_a_certificate_are_not_drawn_as_ranks(files):
    table = read_table(files["phase_study"], PHASE_STUDY)
    table.loc[0, ["rank", "minority_collapsed"]] = np.nan
    _, drawn = study_phase(table)
    assert drawn["rank"].isna().sum() == 1


def test_lambda_is_shown_relative_to_the_rule_of_thumb(files):
    _, drawn = study_critical(read_table(files["critical_study"], CRITICAL_STUDY))
    balanced = drawn[drawn["ratio"] == 1.0]
    np.testing.assert_allclose(balanced["heuristic"], 1.0, rtol=1e-4)


def test_frequencies_of_multiplicity_one_are_drawn(files):
    _, drawn = study_ratios(read_table(files["ratios_study"], RATIOS_STUDY))
    assert set(drawn["frequency"]) == {"", "multiplicity_one"}


# --- what r means ---------------------------------------------------------------------------------------------------


@pytest.fixture
def imbalance(frames, files):
    """The arguments of both figures."""
    ratios = read_table(files["ratios_study"], RATIOS_STUDY)
    return {
        "metrics": frames["metrics"],
        "theory": frames["theory"],
        "ratios": ratios,
        "settings": frames["settings"],
        "networks": {"cnn": "pal", "mlp": "pal"},
    }


@pytest.fixture
def said(monkeypatch):
    """What the figure says below its panels."""
    from matplotlib.figure import Figure

    lines = []
    monkeypatch.setattr(Figure, "supxlabel", lambda self, text, **_: lines.append(text))
    return lines


def test_bookkeeping_has_both_ways_of_counting_and_the_factor_of_the_labels(imbalance, said):
    _, drawn = bookkeeping(**imbalance)
    assert said == []
    optima = drawn[drawn["part"] == "optimum"]
    assert set(optima["profile"]) == {"step"}
    assert set(optima["metric"]) == {"nc2_h", "nc3", "nc3_of_balanced"}
    # Four classes with 31 samples, half of them at r = 0.1, and 4 of each pair.
    assert set(optima["share_single"].round(9)) == {round(124 / 148, 9), round(68.2 / 92.2, 9)}
    networks = drawn[drawn["part"] == "networks"].set_index(["network", "setting", "metric", "variant"])
    assert "step-0.1-equal-steps" not in networks.index.get_level_values("setting")
    row = networks.loc[("mlp", "step-0.2", "nc3", "li2024")]
    # Six classes, three of them with 140 samples and three with 28, and 20 of each of the 15 pairs.
    assert (row["samples"], row["share_single"]) == (804, 504 / 804)
    table = frames_at_end(imbalance["metrics"], "mlp", "step-0.2", "nc3", "li2024")
    low, high = stats.t.interval(0.95, 4, loc=table.mean(), scale=stats.sem(table))
    np.testing.assert_allclose(row[["value", "low", "high"]].astype(float), [table.mean(), low, high])
    assert row["value"] == pytest.approx(1.3 * networks.loc[("mlp", "step-0.2", "nc3", "definition")]["value"])


def frames_at_end(metrics, network, setting, metric, variant):
    """Values over seeds at the last epoch."""
    rows = metrics[(metrics["network"] == network) & (metrics["setting"] == setting) & (metrics["epoch"] == 80)]
    return rows.loc[(rows["metric"] == metric) & (rows["variant"] == variant), "value"].to_numpy()


def test_weighted_settings_count_the_samples_that_they_have(imbalance):
    """A theory file with sampling weights is about other counts than those of Li's mean."""
    key = ("mlab_digits", "step-0.2", "pal")
    entry = imbalance["theory"][key]
    counts = dict.fromkeys(entry.natural.label_sets, 1.0)
    weighted = replace(entry, distribution=LabelDistribution.from_counts(counts, entry.natural.classes))
    theory = {**imbalance["theory"], key: weighted}
    drawn = [bookkeeping(**{**imbalance, "theory": t})[1] for t in (theory, imbalance["theory"])]
    pd.testing.assert_frame_equal(*drawn)


def test_readings_stand_side_by_side_with_the_optimum_of_each_setting(imbalance, frames, said):
    _, drawn = readings(**imbalance, optimum=frames["optimum"])
    assert said == []
    optima = drawn[drawn["part"] == "optimum"]
    assert set(optima["profile"]) == {"step", "exponential", "uniform"}
    assert set(optima["metric"]) == {"nc2_w", "nc2_h", "nc3", "angle"}
    assert set(optima["variant"]) == {"", "definition"}
    uniform = optima[(optima["profile"] == "uniform") & (optima["reference"] == "convex")]
    np.testing.assert_allclose(uniform["value"].astype(float), 0, atol=1e-6)
    assert (optima.loc[(optima["profile"] == "step") & (optima["ratio"] == 0.1), "value"] > 1e-3).any()
    networks = drawn[drawn["part"] == "networks"]
    assert set(networks["network"]) == {"cnn", "mlp"}
    assert set(networks["setting"]) == {"balanced", "step-0.2", "step-0.1", "exponential-0.1"}
    mark = drawn[
        (drawn["part"] == "marks")
        & (drawn["network"] == "cnn")
        & (drawn["setting"] == "step-0.2")
        & (drawn["metric"] == "nc2_w")
    ].set_index("reference")["value"]
    assert mark.to_dict() == pytest.approx({"convex": 0.16, "relu": 0.20})


def test_a_network_of_one_reading_has_no_row_and_is_named(imbalance, frames, said):
    table = imbalance["metrics"]
    imbalance["metrics"] = table[(table["network"] == "mlp") | (table["setting"] != "exponential-0.1")]
    _, drawn = readings(**imbalance, optimum=frames["optimum"])
    assert set(drawn["network"].dropna()) == {"mlp"}
    assert said == ["one reading of r only: cnn on mlab_digits (step only)"]


@pytest.mark.parametrize("networks", [{}, {"mlp": "pal"}])
@pytest.mark.parametrize("figure", ["bookkeeping", "readings"])
def test_what_is_absent_is_left_out_and_said(figure, networks, imbalance, results, said, tmp_path):
    """Neither the study nor, perhaps, a network with a backbone; and a metric that is defined nowhere."""
    table = imbalance["metrics"].copy()
    table.loc[table["metric"] == "nc3", "value"] = np.nan
    table.to_csv(tmp_path / "metrics.csv", index=False)
    files = {"metrics": tmp_path / "metrics.csv", "optimum": results.optimum, "theory": results.theory}
    draw(figure, tmp_path / figure, settings=results.settings, files=files, names={"networks": networks})
    assert said == ["no optima over r: the study “ratios” was not selected"]
    drawn = pd.read_csv(tmp_path / f"{figure}.csv")
    assert "optimum" not in set(drawn["part"])
    assert set(drawn["network"].dropna()) == set(networks)


def test_a_setting_keeps_its_look_whatever_is_drawn():
    entries = {
        "balanced": {"profile": "balanced"},
        "a": {"profile": "step", "ratio": 0.2},
        "b": {"profile": "step", "ratio": 0.1},
        "b-control": {"profile": "step", "ratio": 0.1, "budget": "steps"},
        "mine": {"profile": "explicit", "counts": {"0": 3}},
    }
    found = looks(settings_from_config(entries))
    assert found["b"].colour == found["b-control"].colour
    assert found["b"].dashes != found["b-control"].dashes
    assert len({look.colour for look in found.values()}) == 4
    assert len({look.marker for look in found.values()}) == 5
    assert found["mine"].label == "mine"
    assert found["a"].label == "step r = 0.2"


def test_the_users_own_matplotlib_settings_do_not_reach_the_figures():
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "svg.hashsalt": None}):
        with house_style():
            assert mpl.rcParams["font.size"] == 8
            assert mpl.rcParams["svg.hashsalt"] == "ncpipe"
        assert mpl.rcParams["font.size"] == 30
    assert STYLE_FILE.exists()

"""The claims and the rules that decide them, one pure function for each.

A claim gets two verdicts: at the certified optimum, which knows labels only, and in networks, over seeds. Each rests
on *evidence*, one entry for every data set, setting, network and statistic that the rule looks at:

- supported: every deciding entry supports;
- contradicted: one entry contradicts. Where "one of k" decides, its interval has confidence 1 - 0.05 / k, so that
  looking at many entries does not raise the rate of false contradictions;
- undecided: otherwise, and whenever an ingredient is missing; the reason says which.

Seeds vary initialisation and order of the samples, not the data: so do all intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting, baseline, settings_from_config
from ncpipe.labels.spectrum import is_isotropic
from ncpipe.objective.settings import Objective
from ncpipe.report.evidence import (
    UNCERTIFIED,
    Cell,
    Evidence,
    Verdict,
    Where,
    conclude,
    exactly,
    judge,
    lies_above,
    lies_below,
    number,
    outcome_of,
    weigh,
)
from ncpipe.results.tables import (
    COLLAPSE_METRICS,
    METRIC_LABELS,
    METRICS,
    OPTIMUM,
    SPECTRUM_STUDY,
    SYNTHESIS,
    TAGWISE_STUDY,
    VARIANT_LABELS,
    last_epoch,
    metric_rows,
    read_table,
    write_table,
)
from ncpipe.results.theory_file import read_theory_files
from ncpipe.statistics import CONFIDENCE, equivalence_p, log_ratios, mean_interval, spearman_interval
from ncpipe.stores.files import write_result

REDUCTION = 0.2  # claim 1a: by how much the fitted weights must beat uniform ones
GROWTH = 0.1  # claim 1b: the exponent above which weights grow with frequency
STRONG, WEAK = 0.7, 0.3  # claim 2: rank correlations
INFORMATIVE = 0.8  # claim 3: bound / value
EQUIVALENT = 0.01  # claim 4: margin of the tag-wise residual
GAP, VARIATION = 0.005, 0.1  # claim 5: gap, and rms total variation to the optimum's predictions
ALIGNED = 0.1  # claims Li1, Li2: a Frobenius distance of unit matrices of 0.1 is an angle of 5.7 degrees
EXACT = 1e-3  # what "0" and "exact" mean at a certified optimum, whose prototypes carry the solver's rounding
CERTIFIED = 1e-5  # relative gap below which a solution of the tag-wise study counts as certified
ROUNDING = 1e-9

FILES = {
    "metrics": "collapse/metrics.csv",
    "synthesis": "collapse/synthesis.csv",
    "optimum": "collapse/optimum.csv",
    "spectrum_study": "theory/studies/spectrum.csv",
    "tagwise_study": "theory/studies/tagwise.csv",
}


@dataclass(frozen=True)
class Claim:
    """What is claimed, the rule in words, and what a verdict would mean to a reader."""

    statement: str
    rule: str
    meaning: str


CLAIMS: dict[str, Claim] = {
    "1a": Claim(
        "Synthesis weights of higher-multiplicity prototypes are not uniform",
        "Exponential profile, centred basis, leave-one-label-set-out: supported if fitted weights leave a residual at "
        "least 20 % below that of uniform weights with an interval above 0, and beat the same fit to permuted counts; "
        "contradicted if the reduction's interval lies below 20 %.",
        "Whether the prototype of a label set leans towards some of its classes, or is their plain average.",
    ),
    "1b": Claim(
        "Synthesis weights grow with class frequency",
        "Supported if the interval of the exponent γ lies above 0.1, contradicted if it lies below 0.1.",
        "Whether frequent classes pull a joint prototype harder (γ > 0); γ < 0 says that rare classes do.",
    ),
    "2": Claim(
        "The label covariance spectrum controls the weakest direction of the terminal geometry",
        "Families of label distributions with class counts fixed inside each: supported if the lower bound of "
        "Spearman's ρ between κ_pool and the smallest singular value of the optimum's logits exceeds 0.7 in every "
        "family, contradicted if the upper bound lies below 0.3 in one.",
        "Whether label statistics alone tell which class contrast the network will separate least.",
    ),
    "3": Claim(
        "The bound from label statistics holds and is informative",
        "Holds if there is no violation at all; informative if the bound is at least 0.8 of the value it bounds.",
        "Whether a number computed from labels in milliseconds says where training must end.",
    ),
    "4a": Claim(
        "Tag-wise averaging is exact under perfect orthogonality",
        "At the optimum: exact at every isotropic label distribution. In networks: the residual's excess over the "
        "balanced runs' is equivalent to 0 (two one-sided tests, margin 0.01) at every isotropic setting.",
        "Whether a joint prototype is the scaled sum of its classes' prototypes when labels are balanced.",
    ),
    "4b": Claim(
        "Tag-wise averaging is exact only under perfect orthogonality",
        "At the optimum: contradicted by one certified anisotropic distribution with residual 0. In networks: "
        "contradicted by an anisotropic setting whose excess is equivalent to 0; supported if every excess exceeds the "
        "margin.",
        "Whether an exact tag-wise average would prove that labels are perfectly balanced.",
    ),
    "5": Claim(
        "Networks reach the terminal phase that the theory assumes",
        "Supported if the upper end of the gap's interval is at most 0.005 everywhere; contradicted if the rms total "
        "variation between predictions and the optimum's lies above 0.1 somewhere.",
        "Whether statements about the optimum say anything about the networks that were trained.",
    ),
    "6": Claim(
        "Imbalance worsens every collapse metric at the last epoch",
        "Log-ratios to the balanced runs, paired by seed, equal epochs, our definitions: supported if all five "
        "intervals lie above 0 on every data set, contradicted if one lies below.",
        "Whether collapse is weaker when classes differ in frequency, by every measure of it.",
    ),
    "6-li2024": Claim(
        "Imbalance worsens every collapse metric at the last epoch, as the code of Li et al. computes them",
        "As claim 6, with the centre and the uncentred NC2-H of the published code.",
        "The same question with the published bookkeeping, whose centre itself moves with imbalance.",
    ),
    "Li1": Claim(
        "Balanced within each multiplicity, multiplicity-one prototypes form a simplex ETF",
        "NC2-H at balanced settings: supported if its interval lies below 0.1 (at the optimum: 0.001), contradicted if "
        "above.",
        "Whether the geometry of ordinary neural collapse survives multi-label samples.",
    ),
    "Li2": Claim(
        "Balanced within each multiplicity, prototypes of two labels are scaled tag-wise averages",
        "Angle metric and tag-wise residual at multiplicity two, balanced settings: supported if both intervals lie "
        "below 0.1 (at the optimum: 0.001), contradicted if one lies above.",
        "Whether two-label prototypes need no description of their own.",
    ),
}


@dataclass(frozen=True)
class Tables:
    """Everything that verdicts are made from.

    Parameters
    ----------
    metrics, synthesis, optimum : DataFrame
        The tidy tables of the collapse stage.
    theory : mapping
        Of (data set, setting, objective) to what the theory stage wrote.
    settings : mapping
        Of names to settings, in the order of the configuration.
    objectives : mapping
        Of the names of networks to the names of the objectives that they train.
    spectrum_study, tagwise_study : DataFrame or None
        The studies behind claims 2 and 4; None where they were not run.
    """

    metrics: pd.DataFrame
    synthesis: pd.DataFrame
    optimum: pd.DataFrame
    theory: Mapping[tuple[str, str, str], Mapping[str, Any]]
    settings: Mapping[str, Setting]
    objectives: Mapping[str, str]
    spectrum_study: pd.DataFrame | None = None
    tagwise_study: pd.DataFrame | None = None

    @classmethod
    def read(
        cls,
        *,
        metrics: Path,
        synthesis: Path,
        optimum: Path,
        theory: Iterable[Path],
        settings: Mapping[str, Mapping[str, Any]],
        objectives: Mapping[str, str],
        spectrum_study: Path | None = None,
        tagwise_study: Path | None = None,
    ) -> Tables:
        """Read the tables; a theory file's data set, setting and objective are the last three parts of its path.

        Raises
        ------
        InputError
            If a table is missing or lacks a column.
        StoreError
            If a theory file is missing or damaged.
        """
        return cls(
            metrics=read_table(metrics, METRICS),
            synthesis=read_table(synthesis, SYNTHESIS),
            optimum=read_table(optimum, OPTIMUM),
            theory=read_theory_files(theory),
            settings=settings_from_config(settings),
            objectives=dict(objectives),
            spectrum_study=None if spectrum_study is None else read_table(spectrum_study, SPECTRUM_STUDY),
            tagwise_study=None if tagwise_study is None else read_table(tagwise_study, TAGWISE_STUDY),
        )

    def certified(self, dataset: str, setting: str) -> bool:
        """Whether every optimum of this label distribution that was computed is certified."""
        found = [p["optimum"]["certified"] for (d, s, _), p in self.theory.items() if (d, s) == (dataset, setting)]
        return all(found)

    def label(self, setting: str) -> str:
        """What the setting is called in a subject."""
        return self.settings[setting].label if setting in self.settings else setting


def _verdict(
    claim: str, where: Where, evidence: Sequence[Evidence], files: Iterable[str], *, missing: str = ""
) -> Verdict:
    return conclude(claim, CLAIMS[claim].statement, where, evidence, files, missing=missing)


def _missing(claim: str, where: Where, reason: str, files: Iterable[str] = ()) -> Verdict:
    return _verdict(claim, where, (), files, missing=reason)


def _theory_file(key: tuple[str, str, str]) -> str:
    return f"theory/{key[0]}/{key[1]}/{key[2]}.json"


# ---------------------------------------------------------------------------------------------------------------------
# Samples by seed
# ---------------------------------------------------------------------------------------------------------------------


def _by_seed(rows: pd.DataFrame) -> dict[tuple[str, str, str], pd.Series]:
    """Values by seed for each (data set, network, setting), in order of appearance."""
    keys = ["dataset", "network", "setting"]
    groups = rows.groupby(keys, sort=False)
    return {(str(d), str(n), str(s)): group.set_index("seed")["value"] for (d, n, s), group in groups}


def _final(tables: Tables, metric: str, variant: str = "definition") -> dict[tuple[str, str, str], pd.Series]:
    rows = metric_rows(tables.metrics, metric, variant=variant)
    return _by_seed(last_epoch(rows)) if len(rows) else {}


def _paired(
    treated: pd.Series, control: pd.Series, compare: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    seeds = treated.index.intersection(control.index)
    return compare(treated[seeds].to_numpy(), control[seeds].to_numpy())


def _groups(tables: Tables) -> list[tuple[str, str]]:
    """The pairs of data set and network that were trained."""
    frame = tables.metrics[["dataset", "network"]].drop_duplicates()
    return list(frame.itertuples(index=False, name=None))


def _trained(tables: Tables, dataset: str, network: str) -> set[str]:
    rows = (tables.metrics["dataset"] == dataset) & (tables.metrics["network"] == network)
    return set(tables.metrics.loc[rows, "setting"])


def metric_ratios(tables: Tables, settings: Sequence[Setting], *, variant: str) -> list[Cell]:
    """Log-ratios of the five metrics at the last epoch to the balanced runs, paired by seed, one cell for each.

    Empty where there is no balanced setting; a cell that lacks its metric says so.
    """
    base = baseline(tables.settings)
    if base is None:
        return []
    values = {metric: _final(tables, metric, variant) for metric in COLLAPSE_METRICS}
    cells = []
    for dataset, network in _groups(tables):
        trained = _trained(tables, dataset, network)
        for setting in (s for s in settings if s.name in trained and base.name in trained):
            for metric in COLLAPSE_METRICS:
                subject = f"{dataset}, {setting.label}, {network}, {METRIC_LABELS[metric]}"
                treated = values[metric].get((dataset, network, setting.name))
                control = values[metric].get((dataset, network, base.name))
                if treated is None or control is None:
                    samples, missing = np.empty(0), "the table lacks this metric"
                else:
                    samples, missing = _paired(treated, control, log_ratios), ""
                key = (dataset, network, metric)
                cells.append(Cell(subject, "log-ratio to balanced", samples, missing, key))
    return cells


# ---------------------------------------------------------------------------------------------------------------------
# The claims
# ---------------------------------------------------------------------------------------------------------------------


def _synthesis_rows(tables: Tables, where: Where, hypotheses: Sequence[str]) -> pd.DataFrame:
    """Rows of claim 1's design: exponential profile, centred basis, frequency of multiplicity one."""
    frame = tables.synthesis
    design = [s.name for s in tables.settings.values() if s.profile == "exponential" and s.imbalanced]
    rows = frame["setting"].isin(design) & (frame["basis"] == "centred") & frame["hypothesis"].isin(hypotheses)
    rows &= frame["frequency"] == "multiplicity_one"
    rows &= (frame["network"] == "optimum") == (where == "optimum")
    return frame.loc[rows]


def _synthesis_groups(tables: Tables, rows: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame, str]]:
    """Subject and rows of each data set, setting, network and multiplicity, and why γ means nothing there, if so."""
    for (dataset, setting, network, m), group in rows.groupby(
        ["dataset", "setting", "network", "multiplicity"], sort=False
    ):
        place = "" if network == "optimum" else f", {network}"
        unidentified = group.loc[(group["hypothesis"] == "fitted") & ~group["identified"], "reason"]
        missing = f"not identified: {unidentified.iloc[0]}" if len(unidentified) else ""
        if network == "optimum" and not tables.certified(str(dataset), str(setting)):
            missing = UNCERTIFIED
        yield f"{dataset}, {tables.label(str(setting))}{place}, multiplicity {m:g}", group, missing


_CONTROL_FAILS = "permuted counts do as well: the control fails"
_NO_DESIGN = "no exponential setting in this run: a step profile has one ratio and cannot test a power law"


def claim_1a(tables: Tables, where: Where) -> Verdict:
    """Not uniform: the reduction 1 - fitted / uniform of the leave-one-label-set-out residual, against a control."""
    rows = _synthesis_rows(tables, where, ("fitted", "uniform", "permuted"))
    if rows.empty:
        return _missing("1a", where, _NO_DESIGN, [FILES["synthesis"]])
    statistic = "reduction of the residual"
    cells: list[Cell] = []
    controls: list[np.ndarray] = []
    for subject, group, obstacle in _synthesis_groups(tables, rows):
        residuals = group.pivot_table(index="seed", columns="hypothesis", values="loo_residual", dropna=False)
        if where == "optimum":
            residuals = group.set_index("hypothesis")[["loo_residual"]].T
        lacking = [h for h in ("fitted", "uniform", "permuted") if h not in residuals.columns]
        missing = obstacle or (f"the table lacks the hypothesis {', '.join(lacking)}" if lacking else "")
        if missing:
            # As many seeds as there are, so that a network with too few of them does not decide.
            nothing = np.full(len(residuals), np.nan)
            cells.append(Cell(subject, statistic, nothing, missing))
            controls.append(nothing)
            continue
        uniform = residuals["uniform"].where(residuals["uniform"] > 0)
        cells.append(Cell(subject, statistic, (1 - residuals["fitted"] / uniform).to_numpy()))
        controls.append(((residuals["permuted"] - residuals["fitted"]) / uniform).to_numpy())
    if where == "optimum":
        evidence = [_reduction_at_optimum(c, d) for c, d in zip(cells, controls, strict=True)]
    else:
        evidence = _reduction_in_networks(cells, controls)
    return _verdict("1a", where, evidence, [FILES["synthesis"]])


def _reduction_at_optimum(cell: Cell, control: np.ndarray) -> Evidence:
    if cell.missing or not np.isfinite(cell.samples).all():
        return Evidence(cell.subject, cell.statistic, None, reason=cell.missing or "not defined")
    value = float(cell.samples[0])
    found = exactly(cell.subject, cell.statistic, value, value >= REDUCTION, value - REDUCTION)
    if value >= REDUCTION and not control[0] > 0:
        return replace(found, verdict="undecided", slack=0.0, reason=_CONTROL_FAILS)
    return found


def _reduction_in_networks(cells: Sequence[Cell], controls: Sequence[np.ndarray]) -> list[Evidence]:
    evidence = weigh(
        cells,
        lambda samples, k: reduction_outcome(samples, comparisons=k),
        lambda low, high: low,
    )
    checked = []
    for entry, control in zip(evidence, controls, strict=True):
        if entry.verdict == "supported" and not mean_interval(control).low > 0:
            checked.append(replace(entry, verdict="undecided", slack=0.0, reason=_CONTROL_FAILS))
        else:
            checked.append(entry)
    return checked


def reduction_outcome(samples: np.ndarray, *, comparisons: int = 1) -> int:
    """Rule of claim 1a on reductions over seeds, shape (seeds,): +1, 0 or -1."""
    if judge(samples, above=np.inf, below=REDUCTION, comparisons=comparisons) < 0:
        return -1
    return int(mean_interval(samples).low > 0 and samples.mean() >= REDUCTION)


def claim_1b(tables: Tables, where: Where) -> Verdict:
    """Weights grow with frequency: the interval of the fitted exponent γ against 0.1."""
    rows = _synthesis_rows(tables, where, ("fitted",))
    if rows.empty:
        return _missing("1b", where, _NO_DESIGN, [FILES["synthesis"]])
    statistic = "exponent γ"
    cells, evidence = [], []
    for subject, group, obstacle in _synthesis_groups(tables, rows):
        if where == "networks":
            cells.append(Cell(subject, statistic, group["gamma"].to_numpy(), obstacle))
            continue
        value, low, high = group.iloc[0][["gamma", "gamma_low", "gamma_high"]].astype(float)
        missing = obstacle or ("" if np.isfinite([value, low, high]).all() else "no interval of γ")
        code = 0 if missing else int(low > GROWTH) - int(high < GROWTH)
        evidence.append(
            Evidence(
                subject, statistic, number(value), number(low), number(high), verdict=outcome_of(code),
                slack=number(low - GROWTH), reason=missing,
            )
        )  # fmt: skip
    evidence += lies_above(cells, above=GROWTH, below=GROWTH)
    return _verdict("1b", where, evidence, [FILES["synthesis"]])


def claim_2(tables: Tables, where: Where) -> Verdict:
    """Spectrum controls geometry: Spearman's ρ of κ_pool and σ_{K-1} of the optimum's logits, in every family."""
    if where == "networks":
        return _missing("2", where, "no network was trained on the families of label distributions")
    files = [FILES["spectrum_study"]]
    study = tables.spectrum_study
    if study is None:
        return _missing("2", where, "the study of families was not computed in this run", files)
    families = list(study.groupby("family", sort=False))
    evidence = []
    for family, rows in families:
        for response, name in _RESPONSES.items():
            for predictor, symbol in _PREDICTORS.items():
                decides = (predictor, response) == ("kappa_pool", "sigma_min_logits")
                pairs = rows[[predictor, response]].dropna()
                statistic = f"Spearman's ρ of {symbol} and {name}"
                evidence.append(_correlation(str(family), statistic, pairs, decides=decides, comparisons=len(families)))
    return _verdict("2", where, evidence, files)


_PREDICTORS = {"kappa_pool": "κ_pool", "kappa_1": "κ_1", "kappa_2": "κ_2"}
_RESPONSES = {"sigma_min_logits": "σ_{K-1} of the logits", "margin": "the margin", "lambda_critical": "λ_crit"}


def _correlation(family: str, statistic: str, pairs: pd.DataFrame, *, decides: bool, comparisons: int) -> Evidence:
    x, y = pairs.to_numpy().T
    rho, low, high = spearman_interval(x, y)
    strict = spearman_interval(x, y, confidence=1 - (1 - CONFIDENCE) / comparisons).high
    reason = ""
    if not np.isfinite(rho):
        reason = "constant in this family"
    elif not np.isfinite(low):
        reason = f"{len(x)} members; at least 4 are needed"
    code = int(low > STRONG) - int(strict < WEAK)
    return Evidence(
        f"family {family}", statistic, number(rho), number(low), number(high), verdict=outcome_of(code),
        slack=number(low - STRONG), decides=decides, reason=reason,
    )  # fmt: skip


def claim_3(tables: Tables, where: Where) -> Verdict:
    """The bound (10) and the spectral law (20): no violation, and bound / value at least 0.8."""
    if not tables.theory:
        return _missing("3", where, "the theory stage was not run")
    if where == "optimum":
        evidence = []
        for key, payload in tables.theory.items():
            subject = f"{key[0]}, {tables.label(key[1])}, {key[2]}"
            evidence += _bound_at_optimum(subject, payload)
        return _verdict("3", where, evidence, map(_theory_file, tables.theory))
    return _verdict(
        "3", where, _bound_in_networks(tables), [FILES["metrics"], *map(_theory_file, tables.theory)],
        missing="no network was trained",
    )  # fmt: skip


def _bound_at_optimum(subject: str, payload: Mapping[str, Any]) -> list[Evidence]:
    bound, objective = payload["bound"], float(payload["optimum"]["objective"])
    statistic = "bound (10) / optimum"
    if bound["value"] is None or bound["ratio"] is None:
        reason = bound.get("reason") or "the bound is not available"
        evidence = [Evidence(subject, statistic, None, decides=_plain(payload), reason=reason)]
    else:
        ratio = float(bound["ratio"])
        # Above the value it bounds it would be wrong, far below it says nothing: the nearer of the two is its room.
        holds = float(bound["value"]) <= objective * (1 + ROUNDING)
        slack = ratio - INFORMATIVE if holds else 1 - ratio
        evidence = [exactly(subject, statistic, ratio, holds and ratio >= INFORMATIVE, slack)]
    for law in payload["laws"]["spectral"]:
        left, right = float(law["left"]), float(law["right"])
        where = "pooled" if law["multiplicity"] is None else f"multiplicity {law['multiplicity']}"
        if right <= 0:
            evidence.append(
                Evidence(
                    f"{subject}, {where}", "spectral law (20), right / left", None, decides=False,
                    reason="vacuous: the right side is not positive",
                )
            )  # fmt: skip
            continue
        slack = 1 - right / left if left > 0 else -np.inf
        evidence.append(
            exactly(
                f"{subject}, {where}", "spectral law (20), right / left", right / left if left > 0 else None,
                right <= left + ROUNDING, slack,
            )
        )  # fmt: skip
    return evidence


def _plain(payload: Mapping[str, Any]) -> bool:
    """Whether the objective is the one that (10) is stated for; what it says of others decides nothing."""
    return not Objective.from_config(payload["objective"]).variant


def _bound_in_networks(tables: Tables) -> list[Evidence]:
    ratios, laws, others = [], [], set()
    left, right = _final(tables, "prediction_sigma"), _final(tables, "prediction_sigma_bound")
    for (dataset, network, setting), objective in _final(tables, "objective").items():
        subject = f"{dataset}, {tables.label(setting)}, {network}"
        payload = tables.theory.get((dataset, setting, tables.objectives.get(network, "")))
        if payload is not None and not _plain(payload):
            others.add(subject)
        if payload is None or payload["bound"]["value"] is None:
            missing = "no theory for its objective" if payload is None else "the bound is not available"
            ratios.append(Cell(subject, "bound (10) / objective", np.empty(0), missing))
        else:
            samples = float(payload["bound"]["value"]) / objective.to_numpy()
            ratios.append(Cell(subject, "bound (10) / objective", samples))
        key = (dataset, network, setting)
        if key in left and key in right:
            samples = _paired(left[key], right[key], np.subtract)
            laws.append(Cell(subject, "spectral law (20), left - right", samples))
        else:
            missing = "the table lacks σ_{K-1} of the predictions"
            laws.append(Cell(subject, "spectral law (20), left - right", np.empty(0), missing))
    informative = lies_above(ratios, above=INFORMATIVE, below=INFORMATIVE)
    evidence = [
        *(_unless_violated(e, 1 - c.samples) for e, c in zip(informative, ratios, strict=True)),
        *(
            _unless_violated(e, c.samples)
            for e, c in zip(lies_above(laws, above=-np.inf, below=-np.inf), laws, strict=True)
        ),
    ]
    return [replace(e, decides=False) if e.subject in others and e.verdict == "undecided" else e for e in evidence]


def _unless_violated(entry: Evidence, slack: np.ndarray) -> Evidence:
    """A proven inequality that fails in a single run is contradicted, whatever the mean over runs says."""
    if np.isfinite(slack).any() and np.nanmin(slack) < -ROUNDING:
        worst = number(np.nanmin(slack))
        return replace(entry, verdict="contradicted", slack=worst, decides=True, reason="violated in a run")
    return entry


def _isotropic(payload: Mapping[str, Any]) -> bool:
    """Whether C_m is a multiple of the projection at every multiplicity; null (m = K, where C_m = 0) counts."""
    deltas = [entry["anisotropy"] for entry in payload["spectrum"]["multiplicities"]]
    return all(map(is_isotropic, deltas))


def _balanced_within(payload: Mapping[str, Any]) -> bool:
    """Whether every label set of each multiplicity that occurs has the same number of samples."""
    distribution = payload["distribution"]
    counts: dict[int, list[float]] = {}
    for label_set, count in zip(distribution["label_sets"], distribution["counts"], strict=True):
        counts.setdefault(len(label_set), []).append(count)
    classes = distribution["classes"]
    return all(len(c) == comb(classes, m) and min(c) == max(c) for m, c in counts.items())


def _tagwise_residuals(payload: Mapping[str, Any]) -> dict[int, float]:
    """Residual with one factor at each multiplicity >= 2, at the certified optimum."""
    entries = [e for e in payload["tagwise"] if e["multiplicity"] >= 2 and e["residual"] is not None]
    return {int(e["multiplicity"]): float(e["residual"]) for e in entries}


def _excess(tables: Tables, *, isotropic: bool) -> list[Cell]:
    """Tag-wise residual of each (an)isotropic setting minus that of the balanced runs, paired by seed."""
    base = baseline(tables.settings)
    if base is None:
        return []
    values = _final(tables, "tagwise_residual")
    cells = []
    for (dataset, network, name), treated in values.items():
        payload = tables.theory.get((dataset, name, tables.objectives.get(network, "")))
        control = values.get((dataset, network, base.name))
        if name == base.name or payload is None or control is None or _isotropic(payload) != isotropic:
            continue
        subject = f"{dataset}, {tables.label(name)}, {network}"
        cells.append(Cell(subject, "excess of the tag-wise residual", _paired(treated, control, np.subtract)))
    return cells


def equivalence_outcome(samples: np.ndarray, *, comparisons: int = 1) -> int:
    """Rule of claim 4a on excesses over seeds, shape (seeds,): +1 equivalent to 0, -1 above the margin, else 0."""
    if equivalence_p(samples, EQUIVALENT) < 1 - CONFIDENCE:
        return 1
    low = mean_interval(samples, confidence=1 - (1 - CONFIDENCE) / comparisons).low
    return -1 if low > EQUIVALENT else 0


def only_then_outcome(samples: np.ndarray, *, comparisons: int = 1) -> int:
    """Rule of claim 4b on excesses over seeds, shape (seeds,): +1 above the margin, -1 equivalent to 0, else 0."""
    if equivalence_p(samples, EQUIVALENT) < (1 - CONFIDENCE) / comparisons:
        return -1
    return 1 if mean_interval(samples).low > EQUIVALENT else 0


def claim_4a(tables: Tables, where: Where) -> Verdict:
    """Exact if isotropic: residual 0 at the optimum, excess equivalent to 0 in networks."""
    if where == "networks":
        evidence = weigh(
            _excess(tables, isotropic=True),
            lambda samples, k: equivalence_outcome(samples, comparisons=k),
            lambda low, high: EQUIVALENT - max(abs(low), abs(high)),
        )
        missing = "no setting but the balanced one is isotropic at every multiplicity: nothing to compare with it"
        return _verdict("4a", where, evidence, [FILES["metrics"]], missing=missing)
    evidence, files = [], []
    for key, payload in tables.theory.items():
        if not _isotropic(payload):
            continue
        files.append(_theory_file(key))
        for m, residual in _tagwise_residuals(payload).items():
            subject = f"{key[0]}, {tables.label(key[1])}, {key[2]}, multiplicity {m}"
            certified = tables.certified(*key[:2])
            slack = EXACT - residual
            evidence.append(
                exactly(subject, "tag-wise residual", residual, residual <= EXACT, slack, certified=certified)
            )
    return _verdict("4a", where, evidence, files, missing="no isotropic label distribution in this run")


def claim_4b(tables: Tables, where: Where) -> Verdict:
    """Exact only if isotropic: contradicted by one anisotropic distribution whose residual is 0."""
    if where == "networks":
        evidence = weigh(
            _excess(tables, isotropic=False),
            lambda samples, k: only_then_outcome(samples, comparisons=k),
            lambda low, high: low - EQUIVALENT,
        )
        missing = "no anisotropic setting beside a balanced one"
        return _verdict("4b", where, evidence, [FILES["metrics"]], missing=missing)
    study = tables.tagwise_study
    if study is None:
        reason = "the grid of anisotropic label distributions was not computed in this run"
        return _missing("4b", where, reason, [FILES["tagwise_study"]])
    evidence = []
    for delta_1, delta_2, ratio, graph, share, residual, gap in study[list(TAGWISE_STUDY)].to_numpy().tolist():
        if max(delta_1, delta_2) <= ROUNDING:
            continue
        subject = f"r = {ratio:g}, {share:.0%} of the pairs {_GRAPHS.get(graph, f'on the graph {graph}')}"
        statistic = "tag-wise residual"
        certified = gap <= CERTIFIED
        if certified and EXACT < residual <= EQUIVALENT:
            reason = f"neither 0 nor above {EQUIVALENT:g}"
            evidence.append(Evidence(subject, statistic, residual, slack=0.0, reason=reason))
        else:
            apart = residual > EQUIVALENT
            slack = residual - EQUIVALENT
            evidence.append(exactly(subject, statistic, residual, apart, slack, certified=certified))
    return _verdict("4b", where, evidence, [FILES["tagwise_study"]], missing="the grid is isotropic throughout")


_GRAPHS = {"matching": "in a perfect matching", "bipartite": "between two halves of the classes"}


def claim_5(tables: Tables, where: Where) -> Verdict:
    """Terminal phase: the gap to the reference that fits the features, and the distance of the predictions."""
    if where == "optimum":
        return _missing("5", where, "a statement about training; the optimum is the terminal phase itself")
    variations = _final(tables, "total_variation")
    gaps, distances = [], []
    for key, values in _final(tables, "gap_reference").items():
        subject = f"{key[0]}, {tables.label(key[2])}, {key[1]}"
        gaps.append(Cell(subject, "gap ε to the reference", values.to_numpy()))
        found = variations.get(key)
        missing = "" if found is not None else "the table lacks the total variation"
        samples = np.empty(0) if found is None else found.to_numpy()
        distances.append(Cell(subject, "rms total variation to p*", samples, missing))
    # Only a gap supports and only a measured distance contradicts: a gap bounds the distance, not the reverse.
    evidence = lies_below(gaps, below=GAP, above=np.inf)
    for entry in lies_below(distances, below=VARIATION, above=VARIATION):
        decides = entry.decides and entry.verdict == "contradicted"
        evidence.append(replace(entry, decides=decides))
    return _verdict("5", where, evidence, [FILES["metrics"]], missing="the table lacks gap_reference")


def claim_6(tables: Tables, where: Where, *, variant: str = "definition") -> Verdict:
    """Imbalance worsens every metric: five paired log-ratios for each data set, setting and network."""
    claim = "6" if variant == "definition" else f"6-{variant}"
    base = baseline(tables.settings)
    imbalanced = [s for s in tables.settings.values() if s.imbalanced]
    files = [FILES["optimum" if where == "optimum" else "metrics"]]
    if base is None or not imbalanced:
        return _missing(claim, where, "no pair of a balanced and an imbalanced setting in this run", files)
    if where == "networks":
        evidence = lies_above(metric_ratios(tables, imbalanced, variant=variant), above=0.0, below=0.0)
    else:
        evidence = _differences_at_optimum(tables, base, imbalanced, variant)
    return _verdict(claim, where, evidence, files, missing="no data set has both settings")


def _differences_at_optimum(
    tables: Tables, base: Setting, imbalanced: Sequence[Setting], variant: str
) -> list[Evidence]:
    """Differences, not ratios: at the balanced optimum our metrics are 0."""
    values = {metric: _at_optimum(tables, metric, variant) for metric in COLLAPSE_METRICS}
    evidence = []
    computed = set(tables.optimum[["dataset", "setting", "objective"]].itertuples(index=False, name=None))
    for dataset, objective in dict.fromkeys((d, o) for d, _, o in sorted(computed)):
        for setting in (s for s in imbalanced if (dataset, s.name, objective) in computed):
            for metric in COLLAPSE_METRICS:
                treated = values[metric].get((dataset, setting.name, objective))
                control = values[metric].get((dataset, base.name, objective))
                subject = f"{dataset}, {setting.label}, {objective}, {METRIC_LABELS[metric]}"
                statistic = "difference from balanced"
                if treated is None or control is None or not np.isfinite(treated - control):
                    evidence.append(Evidence(subject, statistic, None, reason="not defined at this optimum"))
                elif abs(treated - control) <= EXACT:
                    reason = "the same as balanced"
                    evidence.append(Evidence(subject, statistic, treated - control, slack=0.0, reason=reason))
                else:
                    change = treated - control
                    certified = tables.certified(dataset, setting.name) and tables.certified(dataset, base.name)
                    evidence.append(exactly(subject, statistic, change, change > 0, change, certified=certified))
    return evidence


def _at_optimum(tables: Tables, metric: str, variant: str = "definition") -> dict[tuple[str, str, str], float]:
    """A metric at each certified convex optimum, by data set, setting and objective."""
    rows = metric_rows(tables.optimum, metric, variant=variant)
    rows = rows.loc[rows["reference"] == "convex"]
    keys = rows[["dataset", "setting", "objective"]].itertuples(index=False, name=None)
    return dict(zip(keys, rows["value"], strict=True))


def _balanced_claim(tables: Tables, where: Where, claim: str, metrics: Mapping[str, str]) -> Verdict:
    """Rule of Li's claims: each metric, at settings balanced within each multiplicity, against a margin."""
    balanced = {key for key, payload in tables.theory.items() if _balanced_within(payload)}
    missing = "no setting of this run is balanced within each multiplicity"
    if not balanced:
        return _missing(claim, where, missing)
    evidence: list[Evidence] = []
    if where == "networks":
        cells = [
            Cell(f"{dataset}, {tables.label(setting)}, {network}", label, values.to_numpy())
            for metric, label in metrics.items()
            for (dataset, network, setting), values in _final(tables, metric).items()
            if (dataset, setting, tables.objectives.get(network, "")) in balanced
        ]
        evidence = lies_below(cells, below=ALIGNED, above=ALIGNED)
        return _verdict(claim, where, evidence, [FILES["metrics"]], missing=missing)
    for metric, label in metrics.items():
        for (dataset, setting, objective), value in _at_optimum(tables, metric).items():
            if (dataset, setting, objective) in balanced:
                subject = f"{dataset}, {tables.label(setting)}, {objective}"
                certified = tables.certified(dataset, setting)
                evidence.append(exactly(subject, label, value, value <= EXACT, EXACT - value, certified=certified))
    return _verdict(claim, where, evidence, [FILES["optimum"]], missing=missing)


def claim_li1(tables: Tables, where: Where) -> Verdict:
    """Li 1: prototypes of multiplicity one form a simplex ETF when label sets are balanced."""
    return _balanced_claim(tables, where, "Li1", {"nc2_h": METRIC_LABELS["nc2_h"]})


def claim_li2(tables: Tables, where: Where) -> Verdict:
    """Li 2: tag-wise averaging at multiplicity two; the angle is blind to scale, so the residual decides too."""
    metrics = {"angle": METRIC_LABELS["angle"], "tagwise_residual": "tag-wise residual"}
    return _balanced_claim(tables, where, "Li2", metrics)


def decide(tables: Tables) -> list[Verdict]:
    """Decide every claim, at the optimum and in networks, in the order of the claims."""
    rules: list[Callable[[Tables, Where], Verdict]] = [
        claim_1a, claim_1b, claim_2, claim_3, claim_4a, claim_4b, claim_5, claim_6,
        lambda tables, where: claim_6(tables, where, variant="li2024"), claim_li1, claim_li2,
    ]  # fmt: skip
    return [rule(tables, where) for rule in rules for where in ("optimum", "networks")]


CONTROLS = (
    "variant", "dataset", "network", "metric", "setting", "label", "decides", "value", "low", "high", "seeds", "reason",
)  # fmt: skip


def control_table(tables: Tables) -> pd.DataFrame:
    """What the controls change: the log-ratios to balanced of claim 6, and the same of the settings that control it.

    Returns
    -------
    DataFrame
        Columns `CONTROLS`; `decides` tells the settings of claim 6 from their controls.
    """
    records = []
    for variant in VARIANT_LABELS:
        for setting in tables.settings.values():
            if not (setting.imbalanced or setting.controlled or setting.profile == "uniform"):
                continue
            cells = metric_ratios(tables, [setting], variant=variant)
            for cell, entry in zip(cells, lies_above(cells, above=0.0, below=0.0), strict=True):
                interval = (entry.value, entry.low, entry.high, entry.seeds, entry.reason)
                records.append((variant, *cell.key, setting.name, setting.label, setting.imbalanced, *interval))
    return pd.DataFrame(records, columns=list(CONTROLS))


def write_claims(tables: Tables, json_path: Path, csv_path: Path) -> list[Verdict]:
    """Decide, and write ``claims.json`` (with all evidence and the controls) and ``claims.csv`` (one row a verdict)."""
    verdicts = decide(tables)
    controls = control_table(tables)
    write_result(
        json_path,
        {
            "claims": [asdict(v) for v in verdicts],
            "controls": controls.astype(object).where(controls.notna(), None).to_dict(orient="records"),
        },
    )
    rows = [{k: v for k, v in asdict(verdict).items() if k != "evidence"} for verdict in verdicts]
    write_table(csv_path, pd.DataFrame(rows).assign(files=["; ".join(v.files) for v in verdicts]))
    return verdicts

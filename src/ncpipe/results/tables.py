"""The tidy tables that figures and verdicts are made from: their columns, how they are read, what a setting means.

Every table is a CSV with one value per row. Reading checks the columns and names the file and what it lacks;
selecting checks that something is there, so that nothing downstream draws or decides on an empty selection.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ncpipe.errors import InputError
from ncpipe.statistics import mean_interval
from ncpipe.stores.files import check_result, write_result

METRICS = ("dataset", "setting", "network", "seed", "epoch", "split", "metric", "variant", "multiplicity", "value")
OPTIMUM = ("dataset", "setting", "objective", "reference", "metric", "variant", "multiplicity", "value")
SYNTHESIS = (
    "dataset", "setting", "network", "seed", "basis", "frequency", "multiplicity", "hypothesis",
    "gamma", "gamma_low", "gamma_high", "residual", "loo_residual", "identified", "reason",
)  # fmt: skip
SPECTRUM_STUDY = (
    "family", "member", "kappa_1", "kappa_2", "kappa_pool", "sigma_min_logits", "margin", "lambda_critical",
)  # fmt: skip
TAGWISE_STUDY = ("delta_1", "delta_2", "ratio", "graph", "share", "residual", "certified_gap")
PHASE_STUDY = (
    "samples_per_pair", "ratio", "lambda", "lambda_objective", "rank", "minority_collapsed", "lambda_minority",
    "lambda_zero", "root_kappa_pool", "relative_gap", "certified",
)  # fmt: skip
CRITICAL_STUDY = (
    "profile", "samples_per_pair", "ratio", "lambda_low", "lambda_high", "rank_above", "root_kappa_pool",
    "lambda_minority", "relative_gap", "certified",
)  # fmt: skip
RATIOS_STUDY = (
    "profile", "ratio", "quantity", "basis", "frequency", "value", "low", "high", "relative_gap", "certified", "reason",
    "reference", "variant",
)  # fmt: skip
SYNTHETIC_STUDY = (
    "ratio", "strength", "draw", "lambda", "kappa_1", "kappa_2", "kappa_pool", "optimum", "bound", "bound_ratio",
    "rank", "sigma_min_logits", "sigma_min_predictions", "law", "geometry_sigma", "geometry_bound", "relative_gap",
    "certified",
)  # fmt: skip

_TEXT = {
    "dataset", "setting", "network", "objective", "reference", "split", "metric", "variant", "basis", "frequency",
    "hypothesis", "reason", "family", "member", "profile", "graph", "quantity",
}  # fmt: skip
_FLAGS = {"identified", "certified"}

COLLAPSE_METRICS = ("nc1", "nc2_w", "nc2_h", "nc3", "angle")
METRIC_LABELS = {"nc1": "NC1", "nc2_w": "NC2-W", "nc2_h": "NC2-H", "nc3": "NC3", "angle": "angle metric"}
VARIANT_LABELS = {"definition": "definition", "li2024": "code of Li et al. 2024"}


def read_table(path: Path | str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a tidy table; text columns keep empty strings, all other empty cells become NaN.

    Raises
    ------
    InputError
        If the file is missing, is no CSV, or lacks a column: the message names the file and the column.
    StoreError
        If it does not match the digest beside it.
    """
    check_result(Path(path))
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV table ({error})") from error
    lacking = [c for c in columns if c not in frame.columns]
    if lacking:
        raise InputError(f"{path}: lacks the columns {', '.join(lacking)}; found {', '.join(frame.columns)}")
    parsed = {}
    for column in columns:
        values = frame[column]
        if column in _TEXT:
            parsed[column] = values
        elif column in _FLAGS:
            parsed[column] = values.str.lower().isin(["true", "1"])
        else:
            try:
                parsed[column] = values.where(values != "").astype(float)
            except ValueError as error:
                raise InputError(f"{path}: column {column} must hold numbers ({error})") from error
    return pd.DataFrame(parsed)


def select(frame: pd.DataFrame, what: str, **wanted: object) -> pd.DataFrame:
    """Rows whose columns equal what is wanted (a list: any of it), for instance ``metric="nc1"``.

    Raises
    ------
    InputError
        If no row is left; the message says what was sought, for `what`.
    """
    rows = np.ones(len(frame), dtype=bool)
    for column, value in wanted.items():
        allowed = list(value) if isinstance(value, (list, tuple)) else [value]
        rows &= frame[column].isin(allowed).to_numpy()
    if not rows.any():
        sought = ", ".join(f"{column} {value}" for column, value in wanted.items())
        raise InputError(f"{what}: the table has no row with {sought}")
    return frame.loc[rows]


def metric_rows(metrics: pd.DataFrame, metric: str, *, variant: str = "definition") -> pd.DataFrame:
    """Rows of one metric of the training split; those of a per-multiplicity metric at multiplicity two, as the papers.

    A metric that has no variants (NC2-W, the angle metric) is the same in every variant. May be empty.
    """
    rows = (metrics["metric"] == metric) & metrics["variant"].isin([variant, ""])
    if "split" in metrics.columns:
        rows &= metrics["split"] != "test"
    rows &= metrics["multiplicity"].isna() | (metrics["multiplicity"] == 2)
    return metrics.loc[rows]


def last_epoch(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last epoch of each data set, setting and network.

    Raises
    ------
    InputError
        If the seeds of one group end at different epochs: their last epochs cannot be compared.
    """
    group = ["dataset", "setting", "network"]
    ends = frame.groupby([*group, "seed"], sort=False)["epoch"].max()
    spread = ends.groupby(level=group, sort=False).agg(["min", "max"])
    uneven = spread.index[spread["min"] != spread["max"]]
    if len(uneven):
        raise InputError(
            f"{' / '.join(uneven[0])}: seeds end at epochs {spread['min'][uneven[0]]:g} to "
            f"{spread['max'][uneven[0]]:g}; they can be compared only at the same epoch"
        )
    return frame.loc[frame["epoch"] == frame.groupby(group, sort=False)["epoch"].transform("max")]


def over_seeds(frame: pd.DataFrame, by: Sequence[str], *, value: str = "value", log: bool = False) -> pd.DataFrame:
    """Mean over seeds with its Student-t interval: columns `by`, then value, low, high, seeds (values that exist).

    With `log`, mean and interval are those of the logarithms, brought back: the geometric mean, as the log-ratios of
    the verdicts see it. Values that are not positive have no logarithm and do not count.
    """
    records = []
    for key, rows in frame.groupby(list(by), sort=False, dropna=False):
        values = rows[value].dropna().to_numpy()
        if log:
            values = np.log(values[values > 0])
        ends = np.array(mean_interval(values)) if len(values) else np.full(3, np.nan)
        records.append([*key, *(np.exp(ends) if log else ends), len(values)])
    return pd.DataFrame(records, columns=[*by, "value", "low", "high", "seeds"])


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV and its digest: shortest round-trip floats, unix line ends, NaN as an empty cell."""
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    write_result(path, buffer.getvalue())

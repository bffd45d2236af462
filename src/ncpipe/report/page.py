"""The report: one self-contained HTML page, from claims, figures and manifests. It fetches nothing from anywhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from ncpipe.errors import InputError
from ncpipe.experiment.setting import Setting, settings_from_config
from ncpipe.report.claims import CLAIMS
from ncpipe.results.tables import METRIC_LABELS
from ncpipe.stores.files import check_result, read_json, write_result

_PIXELS = 1.5  # for each point of a figure, so that the text of all is of one size
_PROFILES = {
    "balanced": "every label set of a multiplicity equally often",
    "step": "multiplicity one: the first half of the classes in full, the others at r",
    "exponential": "multiplicity one: class k of K at r to the power k / (K − 1)",
    "uniform": "multiplicity one: every class at r, so that it stays balanced within itself",
    "explicit": "counts listed in the configuration",
}


@dataclass(frozen=True)
class Figure:
    """A figure as the page shows it: inlined vectors and their width in pixels, the numbers behind it, its caption."""

    name: str
    image: str
    width: int | None
    numbers: str
    title: str
    caption: Markup
    plain: str


def write_page(
    output: Path,
    *,
    claims: Path,
    rebalancing: Path,
    figures: Sequence[Path],
    captions: Sequence[Path],
    manifests: Sequence[Path],
    config: Mapping[str, Any],
) -> None:
    """Write the page.

    Parameters
    ----------
    output : Path
        The HTML file.
    claims : Path
        ``claims.json``.
    rebalancing : Path
        ``rebalancing.json``.
    figures : sequence of Path
        SVG files, in the order of the page; each has its numbers beside it as CSV.
    captions : sequence of Path
        Caption files; the one whose name begins the name of a figure is its caption (the longest, if several do).
    manifests : sequence of Path
        Manifests of the training runs.
    config : mapping
        The whole configuration of the run.

    Raises
    ------
    InputError
        If a figure has no caption or no numbers.
    StoreError
        If a JSON file is missing or damaged.
    """
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ncpipe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=format_number, interval=format_interval, math=format_math)
    decided = read_json(claims)
    runs = [read_json(path) for path in manifests]
    settings = settings_from_config(config["settings"])
    rows = _run_rows(runs, settings)
    content = environment.get_template("page.html.j2").render(
        claims=_claim_rows(decided["claims"]),
        tally=_tally(decided["claims"]),
        runs=rows,
        largest=max((row["samples"] for row in rows), default=0),
        scale=_scale(runs),
        profiles=_PROFILES,
        digits=[name for name, entry in config["datasets"].items() if entry["base"] == "digits"],
        figures=[read_figure(path, captions) for path in figures],
        rebalancing=_rebalancing_tables(read_json(rebalancing)),
        controls=_control_tables(decided["controls"], settings),
        environments=_environments(runs),
        config=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
    )
    write_result(output, content)


def format_number(value: float | None) -> str:
    """Three significant digits with a true minus sign; powers of ten where plain digits would hide the size."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    exponent = int(np.floor(np.log10(abs(value))))
    if -4 < exponent < 5:
        text = f"{value:.{max(0, 2 - exponent)}f}"
    else:
        power = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"{value / 10.0**exponent:.2f} × 10{power}"
    return text.replace("-", "−")


def format_interval(entry: Mapping[str, Any]) -> str:
    """Value with its interval, as far as they exist: ``0.271 [0.144, 0.397]``."""
    value = format_number(entry["value"])
    if entry["low"] is None or entry["high"] is None:
        return value
    return f"{value} [{format_number(entry['low'])}, {format_number(entry['high'])}]"


def format_math(text: str) -> Markup:
    """Escape a text, and set the subscripts of its symbols: ``σ_{K-1}``, ``κ_pool``."""
    escaped = re.sub(r"_\{([^}]*)\}", r"<sub>\1</sub>", str(escape(text)))
    return Markup(re.sub(r"(?<=[κλσδ])_([A-Za-z0-9]+)", r"<sub>\1</sub>", escaped))


def read_figure(path: Path, captions: Iterable[Path]) -> Figure:
    """Read a figure with its numbers and its caption.

    Raises
    ------
    InputError
        If it has no caption or no numbers.
    StoreError
        If it, or its numbers, do not match the digest beside them.
    """
    fitting = [c for c in captions if path.stem == c.stem or path.stem.startswith(f"{c.stem}-")]
    if not fitting:
        raise InputError(f"{path}: no caption file begins its name")
    source = max(fitting, key=lambda c: len(c.stem)).read_text(encoding="utf-8")
    numbers = path.with_suffix(".csv")
    if not numbers.exists():
        raise InputError(f"{numbers}: missing; every figure has its numbers beside it")
    for file in (path, numbers):
        check_result(file)
    drawn = path.read_bytes()
    size = re.search(rb'<svg [^>]*?\bwidth="([0-9.]+)pt"', drawn)
    title, caption = render_caption(source)
    shown_for = path.stem.removeprefix(max(fitting, key=lambda c: len(c.stem)).stem).strip("-").replace("-", " · ")
    return Figure(
        name=path.stem,
        image=_data_uri("image/svg+xml", drawn),
        width=None if size is None else round(float(size[1]) * _PIXELS),
        numbers=_data_uri("text/csv", numbers.read_bytes()),
        title=f"{title} ({shown_for})" if shown_for else title,
        caption=caption,
        plain=re.sub(r"[*`]", "", " ".join(source.split())),
    )


def render_caption(source: str) -> tuple[str, Markup]:
    """Split a caption into its title, the bold sentence it opens with, and its text as HTML.

    Captions are reStructuredText of one paragraph, so that Snakemake's own report shows them too; here bold, literal
    and emphasised text is understood and everything else is text.

    Raises
    ------
    InputError
        If the caption does not open with a bold title.
    """
    text = " ".join(source.split())
    match = re.match(r"\*\*(.+?)\.?\*\*\s*(.*)$", text)
    if match is None:
        raise InputError(f"caption {text[:40]!r}: must open with a title in **bold**")
    body = str(escape(match[2]))
    for pattern, tag in ((r"\*\*(.+?)\*\*", "strong"), (r"``(.+?)``", "code"), (r"\*(.+?)\*", "em")):
        body = re.sub(pattern, rf"<{tag}>\1</{tag}>", body)
    return match[1], Markup(body)  # escaped above; only these tags are put in


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _claim_rows(verdicts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each claim, with its verdicts by place."""
    rows: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        about = CLAIMS[verdict["claim"]]
        row = rows.setdefault(
            verdict["claim"], {"claim": verdict["claim"], "about": about, "statement": verdict["statement"]}
        )
        row[verdict["where"]] = verdict
    return list(rows.values())


def _tally(verdicts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How many claims have each verdict, by place."""
    counts = {w: dict.fromkeys(("supported", "contradicted", "undecided"), 0) for w in ("optimum", "networks")}
    for verdict in verdicts:
        counts[verdict["where"]][verdict["verdict"]] += 1
    return counts


def _run_rows(runs: Iterable[Mapping[str, Any]], settings: Mapping[str, Setting]) -> list[dict[str, Any]]:
    """One row for each data set and setting: samples by multiplicity, and the seeds and epochs of each network."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        used = run["identity"]["settings"]
        place = used["run"]
        key = (place["dataset"], place["setting"])
        if key not in rows:
            sizes: dict[int, list[float]] = {}
            for label_set, count in used["counts"].items():
                sizes.setdefault(label_set.count("+") + 1, []).append(count)
            parts = [
                f"m = {m}: {sum(counts):g} = {len(counts)} × {_span(counts)}" for m, counts in sorted(sizes.items())
            ]
            rows[key] = {
                "dataset": key[0],
                "setting": key[1],
                "label": settings[key[1]].label if key[1] in settings else key[1],
                "profile": settings[key[1]].profile if key[1] in settings else "explicit",
                "samples": sum(sum(counts) for counts in sizes.values()),
                "counts": parts,
                "networks": {},
            }
        network = rows[key]["networks"].setdefault(place["network"], {"seeds": [], "epochs": set()})
        network["seeds"].append(place["seed"])
        network["epochs"].add(max(run["epochs"]))
    order = {name: i for i, name in enumerate(settings)}
    for row in rows.values():
        row["networks"] = [
            f"{name}: {_count(len(n['seeds']), 'seed')}, {' / '.join(map(str, sorted(n['epochs'])))} epochs"
            for name, n in row["networks"].items()
        ]
    return sorted(rows.values(), key=lambda row: (row["dataset"], order.get(row["setting"], len(order))))


def _span(counts: Sequence[float]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:g}" if low == high else f"({low:g} to {high:g})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _scale(runs: Sequence[Mapping[str, Any]]) -> str:
    """One line that says how much was trained."""
    places = [run["identity"]["settings"]["run"] for run in runs]
    parts = [
        _count(len({p[key] for p in places}), what)
        for key, what in (("dataset", "data set"), ("setting", "setting"), ("network", "network"))
    ]
    return " · ".join([*parts, _count(len(runs), "training run")])


def _control_tables(records: Iterable[Mapping[str, Any]], settings: Mapping[str, Setting]) -> list[dict[str, Any]]:
    """For each control, its log-ratios beside those of the setting that it controls, metric by metric."""
    by_setting: dict[str, dict[tuple[str, ...], Mapping[str, Any]]] = {}
    for record in records:
        if record["variant"] == "definition":
            key = (record["dataset"], record["network"], record["metric"])
            by_setting.setdefault(record["setting"], {})[key] = record
    tables = []
    for control in (s for s in settings.values() if s.controlled and s.name in by_setting):
        twin = next(
            (
                s
                for s in settings.values()
                if not s.controlled
                and (s.profile, s.ratio, s.counts) == (control.profile, control.ratio, control.counts)
            ),
            None,
        )
        before = by_setting.get(twin.name, {}) if twin else {}
        rows = [
            {
                "subject": f"{key[0]}, {key[1]}",
                "metric": METRIC_LABELS[key[2]],
                "before": before[key],
                "after": after,
                "change": _change(before[key], after),
            }
            for key, after in by_setting[control.name].items()
            if key in before
        ]
        tables.append({"control": control.label, "twin": twin.label if twin else None, "rows": rows})
    return tables


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What the control does to the sign that the interval shows."""
    words = {1: "worse", -1: "better", 0: "undecided", None: "no interval"}
    signs = [
        None if entry["low"] is None else int(entry["low"] > 0) - int(entry["high"] < 0) for entry in (before, after)
    ]
    if signs[0] == signs[1]:
        return f"{words[signs[0]]}, with and without"
    return f"{words[signs[0]]} without, {words[signs[1]]} with"


def _rebalancing_tables(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each data set and setting with weights, what its labels say and the rows of its networks."""
    return [
        entry
        | {
            "rows": [
                row
                for row in content["comparisons"]
                if (row["dataset"], row["setting"]) == (entry["dataset"], entry["setting"])
            ]
        }
        for entry in content["settings"]
    ]


def _environments(runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The distinct environments of the runs, and how many runs each made."""
    found: dict[tuple[tuple[str, str], ...], int] = {}
    for run in runs:
        key = tuple((str(k), str(v)) for k, v in sorted(run["environment"].items()))
        found[key] = found.get(key, 0) + 1
    return [{"versions": dict(key), "runs": _count(number, "run")} for key, number in found.items()]

"""The page: complete, self-contained, and safe whatever names the configuration and the tables carry."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncpipe.errors import InputError, StoreError
from ncpipe.report.claims import CLAIMS, Tables, write_claims
from ncpipe.report.page import format_interval, format_math, format_number, read_figure, render_caption, write_page
from ncpipe.stores.files import write_result

CAPTIONS = sorted((Path(__file__).parents[2] / "workflow" / "report").glob("*.rst"))
HOSTILE = "<script>alert('x')</script>\"&"
REBALANCING = {
    "settings": [
        {
            "dataset": "mlab_digits",
            "setting": "weighted",
            "label": "step r = 0.1, max-κ weights, cap 2",
            "natural": "step-0.1",
            "natural_label": "step r = 0.1",
            "method": "max_kappa",
            "target": "normalised",
            "cap": 2.0,
            "upper_bound": 0.0467,
            "factors": [0.5, 2.0],
            "kappa": {
                "natural": 0.0323,
                "class_balanced": 0.0392,
                "effective_number": 0.0383,
                "max_kappa": 0.0467,
                "sampled": 0.0467,
            },
        }
    ],
    "comparisons": [
        {
            "dataset": "mlab_digits",
            "network": "mlp",
            "setting": "weighted",
            "natural": "step-0.1",
            "metric": "error",
            "split": "test",
            "statistic": "test error",
            "before": 0.3,
            "after": 0.2,
            "change": -0.1,
            "low": -0.15,
            "high": -0.05,
            "seeds": 5,
            "says": "better",
            "reason": "",
            "optimum_before": None,
            "optimum_after": None,
        }
    ],
}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def shown(text: str) -> str:
    """Words of a text once its symbols have subscripts."""
    page = Page(str(format_math(text)))
    return page.words()


@pytest.fixture(scope="module")
def made(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    tables = Tables.read(
        metrics=results.metrics,
        synthesis=results.synthesis,
        optimum=results.optimum,
        theory=results.theory,
        settings=results.settings,
        objectives={n: v["objective"] for n, v in results.networks.items()},
    )
    verdicts = write_claims(tables, folder / "claims.json", folder / "claims.csv")
    (folder / "rebalancing.json").write_text(json.dumps(REBALANCING))
    figures = []
    for name in ("spectrum", "dynamics-mlp-definition", "final-mlp-li2024", "study-spectrum"):
        (folder / f"{name}.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><!-- {name} --></svg>')
        (folder / f"{name}.csv").write_text("a,b\n1,2\n")
        figures.append(folder / f"{name}.svg")
    config = {
        "settings": results.settings,
        "networks": results.networks,
        "datasets": {"mlab_digits": {"base": "digits"}, "mlab_mnist5k": {"base": "mnist5k"}},
    }
    options = {
        "claims": folder / "claims.json",
        "rebalancing": folder / "rebalancing.json",
        "figures": figures,
        "captions": CAPTIONS,
        "manifests": results.manifests,
        "config": config,
    }
    write_page(folder / "index.html", **options)
    return folder, options, verdicts


def html(made) -> str:
    return (made[0] / "index.html").read_text()


def test_the_page_is_well_formed_and_mentions_every_verdict(made):
    page = Page(html(made))
    words = page.words()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for claim, about in CLAIMS.items():
        assert f"claim-{claim}" in ids
        assert about.statement in words
        assert about.meaning in words
        assert shown(about.rule) in words
    for verdict in made[2]:
        assert shown(verdict.reason) in words
        assert format_interval({"value": verdict.value, "low": verdict.low, "high": verdict.high}) in words
        for file in verdict.files:
            assert file in words
    for outcome in ("supported", "contradicted", "undecided"):
        assert words.count(outcome) >= sum(v.verdict == outcome for v in made[2])


def test_the_page_fetches_nothing(made):
    page = Page(html(made))
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#"))
    styles = re.findall(r"<style>(.*?)</style>", html(made), re.DOTALL)
    assert not re.search(r"url\(|@import|https?:", "".join(styles))
    assert "default-src 'none'" in html(made)


def test_figures_and_their_numbers_are_inside(made):
    page = Page(html(made))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(len(image["alt"]) > 100 for image in images)
    svg = base64.b64decode(images[1]["src"].split(",")[1]).decode()
    assert "dynamics-mlp-definition" in svg
    links = {a["download"]: a["href"] for _, a in page.tags if "download" in a}
    assert base64.b64decode(links["dynamics-mlp-definition.csv"].split(",")[1]) == b"a,b\n1,2\n"
    assert "Collapse during training (mlp · definition)." in page.words()
    assert "What the pooled spectrum controls." in page.words()  # not the caption of `spectrum`


def test_the_page_says_what_was_run(made):
    words = Page(html(made)).words()
    assert "2 data sets · 5 settings · 3 networks · 110 training runs" in words
    assert "multiplicity one: the first half of the classes in full, the others at r" in words
    assert "cnn: 5 seeds, 80 epochs" in words
    assert "ufm: 1 seed, 80 epochs" in words
    assert "m = 1: 462 = 6 × (14 to 140)" in words
    assert "torch 2.13.0" in words
    assert "step r = 0.1, equal steps" in words
    assert "worse, with and without" in words
    assert "The largest setting here has 1,140 samples, those of mlab_digits of 16 × 16 pixels" in words
    assert "Seeds vary initialisation and the order of samples" in words


def test_the_text_of_all_figures_is_of_one_size(made, tmp_path):
    """Half as wide a drawing takes half the width of the page, as far as that allows."""
    widths = {}
    for points in ("360", "720.5"):
        (tmp_path / "spectrum.svg").write_text(f'<?xml version="1.0"?>\n<svg height="9pt"\n width="{points}pt"/>')
        (tmp_path / "spectrum.csv").write_text("a\n1\n")
        widths[points] = read_figure(tmp_path / "spectrum.svg", CAPTIONS).width
    assert widths == {"360": 540, "720.5": 1081}
    assert read_figure(made[0] / "spectrum.svg", CAPTIONS).width is None


@pytest.mark.parametrize("kind", ["svg", "csv"])
def test_a_damaged_figure_or_its_numbers_are_not_shown(made, tmp_path, kind):
    for name in ("spectrum.svg", "spectrum.csv"):
        write_result(tmp_path / name, (made[0] / name).read_bytes())
    assert read_figure(tmp_path / "spectrum.svg", CAPTIONS).name == "spectrum"
    (tmp_path / f"spectrum.{kind}").write_bytes(b"other")
    with pytest.raises(StoreError, match=rf"spectrum\.{kind}: damaged"):
        read_figure(tmp_path / "spectrum.svg", CAPTIONS)


def test_equal_inputs_give_equal_bytes(made, tmp_path):
    write_page(tmp_path / "again.html", **made[1])
    assert (tmp_path / "again.html").read_bytes() == (made[0] / "index.html").read_bytes()


def test_hostile_names_are_text(made, tmp_path):
    folder, options, _ = made
    manifest = json.loads(options["manifests"][0].read_text())
    used = manifest["identity"]["settings"]
    used["run"] |= {"dataset": HOSTILE, "network": HOSTILE, "setting": HOSTILE}
    manifest["environment"]["device"] = HOSTILE
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    decided = json.loads((folder / "claims.json").read_text())
    for verdict in decided["claims"]:
        verdict |= {"reason": HOSTILE, "statistic": HOSTILE, "files": [HOSTILE], "statement": HOSTILE}
    for control in decided["controls"]:
        control |= {"dataset": HOSTILE, "network": HOSTILE}
    (tmp_path / "claims.json").write_text(json.dumps(decided))
    rebalanced = json.loads(json.dumps(REBALANCING))
    shown = {"dataset", "setting", "label", "natural_label", "network", "reason"}
    for row in (*rebalanced["settings"], *rebalanced["comparisons"]):
        row.update(dict.fromkeys(shown & row.keys(), HOSTILE))
    (tmp_path / "rebalancing.json").write_text(json.dumps(rebalanced))
    settings = {**options["config"]["settings"], HOSTILE: {"profile": "explicit", "counts": {}}}
    changed = {
        **options,
        "claims": tmp_path / "claims.json",
        "rebalancing": tmp_path / "rebalancing.json",
        "manifests": [tmp_path / "manifest.json"],
        "config": {"settings": settings, "datasets": {HOSTILE: {"base": "digits"}}},
    }
    write_page(tmp_path / "index.html", **changed)
    content = (tmp_path / "index.html").read_text()
    page = Page(content)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words().count(HOSTILE) > 20
    assert "<script>" not in content


# What the page looks up: names of claims, verdicts, metrics and profiles, which are ours.
KEYS = {"claim", "verdict", "where", "metric", "variant", "profile", "budget"}


def poisoned(value, kept=KEYS):
    """Put something hostile into every string of nested mappings and lists, and into every key that is a name."""
    if isinstance(value, dict):
        return {key: inner if key in kept else poisoned(inner, kept) for key, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, kept) for inner in value]
    return value + HOSTILE if isinstance(value, str) else value


def shape(content):
    """Tags of a page and the names of their attributes: what text cannot change."""
    return {(tag, *attributes) for tag, attributes in Page(content).tags}


def test_no_string_of_any_file_or_of_the_configuration_changes_the_page(made, tmp_path):
    """All of them at once, also in names of files; the page has the tags and attributes that it always has."""
    folder, options, _ = made
    files = {}
    for name in ("claims", "rebalancing"):
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(poisoned(json.loads((folder / f"{name}.json").read_text()))))
    manifests = []
    for number, path in enumerate(options["manifests"]):
        manifests.append(tmp_path / f"{number}.json")
        manifests[-1].write_text(json.dumps(poisoned(json.loads(path.read_text()))))
    figures = []
    for path in options["figures"]:
        figures.append(tmp_path / f'{path.stem}-"><img src=x onerror=alert(1)>&.svg')
        figures[-1].write_bytes(path.read_bytes())
        figures[-1].with_suffix(".csv").write_text(HOSTILE)
    config = poisoned(options["config"], KEYS | {"base"})
    for section in config:
        config[section] = {**config[section], **{name + HOSTILE: entry for name, entry in config[section].items()}}
    write_page(
        tmp_path / "index.html", **{**options, **files, "manifests": manifests, "figures": figures, "config": config}
    )
    content = (tmp_path / "index.html").read_text()
    assert shape(content) == shape(html(made))
    assert Page(content).words().count("<script>alert('x')</script>") > 500
    assert "onerror=alert(1)>" not in content


def test_rebalancing_is_shown_with_what_labels_promised(made):
    words = Page(html(made)).words()
    assert "κ of the pooled targets is 0.0323 without weights and 0.0467 with factors of 0.500 to 2.00" in words
    assert "within a factor of 2.00 that keep the share of each multiplicity reach more than 0.0467" in words
    assert "weights reach 0.0392" in words
    assert "mlp test error 0.300 0.200 −0.100 [−0.150, −0.0500] 5 better – –" in words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"settings": [], "comparisons": []}, "No setting of this run has sampling weights."),
        ({**REBALANCING, "comparisons": []}, "No network was trained both with and without these weights."),
    ],
)
def test_a_run_without_rebalancing_says_so(made, tmp_path, content, words):
    (tmp_path / "rebalancing.json").write_text(json.dumps(content))
    write_page(tmp_path / "index.html", **{**made[1], "rebalancing": tmp_path / "rebalancing.json"})
    assert words in Page((tmp_path / "index.html").read_text()).words()


def test_a_run_without_controls_says_so(made, tmp_path):
    folder, options, _ = made
    decided = json.loads((folder / "claims.json").read_text())
    (tmp_path / "claims.json").write_text(json.dumps({**decided, "controls": []}))
    write_page(tmp_path / "index.html", **{**options, "claims": tmp_path / "claims.json"})
    assert "No control was trained in this run" in Page((tmp_path / "index.html").read_text()).words()


def test_what_is_missing_is_named(made, tmp_path):
    folder, options, _ = made
    with pytest.raises(StoreError, match=r"nowhere\.json: missing"):
        write_page(tmp_path / "x.html", **{**options, "claims": tmp_path / "nowhere.json"})
    with pytest.raises(InputError, match="no caption"):
        read_figure(folder / "spectrum.svg", [])
    (tmp_path / "spectrum.svg").write_text("<svg/>")
    with pytest.raises(InputError, match=r"spectrum\.csv: missing"):
        read_figure(tmp_path / "spectrum.svg", CAPTIONS)
    assert not (tmp_path / "x.html").exists()


def test_captions_are_utf_8_whatever_the_locale(made):
    """Read under a locale of ASCII, they are what they are here."""
    script = "import sys; from pathlib import Path; from ncpipe.report.page import read_figure; "
    script += "print(ascii(read_figure(Path(sys.argv[1]), map(Path, sys.argv[2:])).plain))"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    figure = made[0] / "study-spectrum.svg"
    done = subprocess.run(
        [sys.executable, "-c", script, str(figure), *map(str, CAPTIONS)],
        env={**environment, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == read_figure(figure, CAPTIONS).plain
    assert "κ" in read_figure(figure, CAPTIONS).plain


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_captions_open_with_a_title_and_escape_the_rest(path):
    title, body = render_caption(path.read_text())
    assert 10 < len(title) < 60
    assert len(body) > 100
    assert "**" not in body


def test_captions_understand_little_and_escape_everything_else():
    title, body = render_caption("**A title.** One ``code`` and *stress*,\n<b>x</b>.")
    assert title == "A title"
    assert body == "One <code>code</code> and <em>stress</em>, &lt;b&gt;x&lt;/b&gt;."
    with pytest.raises(InputError, match="bold"):
        render_caption("No title")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (None, "–"),
        (float("nan"), "–"),
        (0.27123, "0.271"),
        (-0.0501, "−0.0501"),
        (12.345, "12.3"),
        (12345.6, "12346"),
        (1.2345e-7, "1.23 × 10⁻⁷"),
        (-3.2e9, "−3.20 × 10⁹"),
        (0.001234, "0.00123"),
    ],
)
def test_numbers_are_readable(value, text):
    assert format_number(value) == text


@given(st.floats(1e-12, 1e12))
def test_numbers_keep_three_digits(value):
    text = format_number(value).translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    assert np.isclose(float(text.replace(" × 10", "e")), value, rtol=6e-3)


def test_symbols_get_subscripts_and_everything_else_is_escaped() -> None:
    assert format_math("σ_{K-1} of κ_pool, a_b") == "σ<sub>K-1</sub> of κ<sub>pool</sub>, a_b"
    assert format_math("κ_<script>") == "κ_&lt;script&gt;"
    assert format_math("x_{<b>}") == "x<sub>&lt;b&gt;</sub>"

"""``ncpipe spectrum``, ``optimum``, ``rebalance`` and ``design``: what the labels alone say, for any label file.

Each prints a table, or with ``--json`` one JSON object whose keys are a contract (docs/theory/command-line.md). Exit
codes: 0, 2 for input that cannot be used, 3 for an optimum that is not certified to the gap asked for.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ncpipe.command.arguments import file_with, listed, number, whole
from ncpipe.command.terminal import (
    format_contrast,
    format_count,
    format_table,
    print_json,
    ticking,
    write_values,
    writing,
)
from ncpipe.errors import InputError
from ncpipe.labels.names import label_set_name
from ncpipe.objective.names import BIAS_MODES, CLASSIFIERS, DEFAULT_LOSS, LOSS_FACTS

if TYPE_CHECKING:
    import numpy as np

    from ncpipe.labels.distribution import LabelDistribution, Target
    from ncpipe.labels.spectrum import Spectrum
    from ncpipe.objective.settings import Objective

EXIT_NOT_CERTIFIED = 3

_PAIRS = ("complete", "matching", "bipartite", "random", "correlated")
_SCHEMES = ("class_balanced", "inverse_frequency", "effective_number")
_MOST_ENTRIES = 100_000_000  # label sets times classes: 0.8 GB in each of several dense arrays
_LARGEST_DESIGN = 1000  # classes: half a million pairs
_NAMES_SHOWN = 3
_SETS_SHOWN = 6


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    spectrum = subparsers.add_parser(
        "spectrum",
        help="label covariance spectrum of a label file",
        description="The label covariance spectrum (1)-(6): how strongly the labels of FILE tell contrasts of classes "
        "apart, per multiplicity and pooled, and the weakest contrast of each.",
    )
    _add_input(spectrum)
    _add_target(spectrum)
    _add_output(spectrum, "eigenvalues and weakest contrasts")
    spectrum.set_defaults(func=_spectrum)

    optimum = subparsers.add_parser(
        "optimum",
        help="certified optimum of the terminal objective for a label file",
        description="The global minimum (7)-(9) of the terminal objective for the labels of FILE, with a lower bound "
        "that certifies it. Exit code 3: not certified to --rtol.",
    )
    _add_input(optimum)
    add, positive = optimum.add_argument, number(above=0)
    add("--lambda-w", type=positive, required=True, metavar="X", help="penalty on the classifier, > 0 (required)")
    add("--lambda-h", type=positive, required=True, metavar="X", help="of the features, per sample, > 0 (required)")
    add("--bias", choices=BIAS_MODES, default="none", metavar="MODE", help="none, penalised or free (default: none)")
    add("--lambda-b", type=positive, metavar="X", help="penalty on the bias, > 0, for --bias penalised")
    _add_target(optimum)
    losses, kinds = tuple(LOSS_FACTS), CLASSIFIERS
    add(
        "--loss",
        choices=losses,
        default=DEFAULT_LOSS,
        metavar="NAME",
        help="pal, bce (with --raw) or mse (default: pal)",
    )
    add("--class-weights", type=_class_weights, metavar="C", help="of pal: balanced, or one number a class: 1,2.5,...")
    add("--classifier", choices=kinds, default="learned", metavar="KIND", help="learned or etf, a fixed simplex ETF")
    add("--relu", action="store_true", help="features h >= 0, as after a ReLU (9a)")
    add("--rtol", type=positive, default=1e-6, metavar="X", help="relative gap to certify (default: 1e-6)")
    _add_output(optimum, "classifier, prototypes, logits and the dual point")
    optimum.set_defaults(func=_optimum)

    rebalance = subparsers.add_parser(
        "rebalance",
        help="sampling weights that strengthen the weakest contrast",
        description="Sampling weights over the label sets of FILE that maximise the weakest contrast (19), each within "
        "a factor --rho of its share, compared with weights from class frequencies.",
    )
    _add_input(rebalance)
    factor = number(least=1)
    rebalance.add_argument(
        "--rho", type=factor, default=2.0, metavar="X", help="largest change of a label set's share (default: 2)"
    )
    _add_target(rebalance)
    _add_output(rebalance, "the weight of every label set")
    rebalance.set_defaults(func=_rebalance)

    design = subparsers.add_parser(
        "design",
        help="write a label file with chosen marginals and correlations",
        description="Design a label distribution, write it to FILE (.json: label sets and counts; .npz: one row per "
        "sample) and print its spectrum. Every graph of pairs is regular: each class is in equally many.",
    )
    add, amount, count = design.add_argument, number(least=0), whole(least=0)
    sizes, blocks = whole(least=2, most=_LARGEST_DESIGN), listed(count)
    add("file", type=file_with(".json", ".npz"), metavar="FILE", help="label file to write, .json or .npz")
    add("--classes", type=sizes, default=10, metavar="K", help="number of classes (default: 10)")
    add("--alone", type=amount, default=3100.0, metavar="N", help="samples of each class alone (default: 3100)")
    add("--ratio", type=amount, default=1.0, metavar="R", help="of the second half of the classes (default: 1)")
    add("--pairs", choices=_PAIRS, default="complete", metavar="KIND", help=f"{', '.join(_PAIRS)} (default: complete)")
    add("--per-pair", type=amount, default=200.0, metavar="N", help="samples per pair on average (default: 200)")
    add("--strength", type=amount, metavar="X", help="of --pairs correlated: 0 is independent (default: 1)")
    add("--relabel", action="store_true", help="permute the classes of the pairs at random")
    add("--block", type=blocks, metavar="A,B,...", help="instead of pairs the label sets block + i modulo K")
    add("--kappa", type=amount, metavar="X", help="mix with all pairs alike until the weakest contrast is X")
    add("--multiplicity", type=whole(least=1), metavar="M", help="of --kappa: κ_M (default: pooled)")
    add("--seed", type=count, default=0, metavar="N", help="of everything random (default: 0)")
    add("--json", action="store_true", help="print one JSON object, as `ncpipe spectrum` does")
    design.set_defaults(func=_design)


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="labels: .npz .npy .csv .tsv .arff .svm .json or a folder"
    )
    add = parser.add_argument_group("reading FILE").add_argument
    add("--key", help="of .npz: the label matrix (default: Y)")
    add("--header", choices=("yes", "no"), help="of .csv, .tsv: whether the first line is names (default: by a rule)")
    add(
        "--present",
        type=number(above=0),
        metavar="X",
        help="of .npz, .npy, .csv, .tsv: the entry of a label that is there, all others are absent",
    )
    add("--labels", type=_attributes, metavar="N|XML", help="of .arff: first N (last -N) attributes, or a label list")
    add("--first-class", type=whole(), metavar="0|1", help="of svmlight: number of the first class")
    add("--classes", type=whole(), metavar="K", help="of svmlight: number of classes")
    add("--split", help="of a run's or data set's folder: train or test (default: train)")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--raw", dest="target", action="store_const", const="raw", default="normalised", help="target y instead of y/m"
    )


def _add_output(parser: argparse.ArgumentParser, content: str) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON object")
    add("--out", type=file_with(".json", ".npz"), metavar="FILE", help=f"write {content} too: .json or .npz")
    add("--plot", type=file_with(".png", ".svg", ".pdf"), metavar="FILE", help="draw it: .png, .svg or .pdf")


def _class_weights(text: str) -> str | tuple[float, ...]:
    return text if text == "balanced" else listed(number(above=0))(text)


def _attributes(text: str) -> int | Path:
    return Path(text) if text.endswith(".xml") else whole()(text)


# --- spectrum -----------------------------------------------------------------------------------------------------


def _spectrum(options: argparse.Namespace) -> int:
    distribution = _read(options)
    spectra = _spectra(distribution, options.target)
    payload = _spectrum_payload(distribution, spectra)
    if options.json:
        print_json(payload)
    else:
        print(f"{_title(options, distribution)}\n\n{_spectrum_table(distribution, spectra, options.target)}")
    if options.out is not None:
        values: dict[str, Any] = {"class_names": list(distribution.class_names)}
        values |= {f"eigenvalues_{name}": spectrum.eigenvalues for name, (spectrum, _) in spectra.items()}
        values |= {f"weakest_{name}": spectrum.weakest for name, (spectrum, _) in spectra.items()}
        write_values(options.out, payload, values)
    if options.plot is not None:
        from ncpipe.command.plots import draw_spectra

        draw_spectra(options.plot, {name: spectrum for name, (spectrum, _) in spectra.items()}, distribution)
    return 0


def _spectra(distribution: LabelDistribution, target: Target) -> dict[str, tuple[Spectrum, float | None]]:
    """Spectrum of every multiplicity, by its name, with κ of the covariance; and of ``pooled``, without."""
    from ncpipe.labels.spectrum import kappa_covariance, multiplicity_spectrum, pooled_spectrum

    with ticking("spectrum"):
        spectra: dict[str, tuple[Spectrum, float | None]] = {
            str(m): (multiplicity_spectrum(distribution, m), kappa_covariance(distribution, m))
            for m in distribution.multiplicities
        }
        return spectra | {"pooled": (pooled_spectrum(distribution, target), None)}


def _samples(distribution: LabelDistribution, multiplicity: int) -> float:
    return float(distribution.counts[distribution.multiplicity == multiplicity].sum())


def _spectrum_payload(
    distribution: LabelDistribution, spectra: Mapping[str, tuple[Spectrum, float | None]]
) -> dict[str, Any]:
    from ncpipe.labels.distribution import contrast_classes
    from ncpipe.labels.files import whole

    multiplicities = []
    for m in distribution.multiplicities:
        spectrum, covariance = spectra[str(m)]
        weakest = None
        if spectrum.kappa_max > 0:  # where all classes are present, there is no contrast
            classes = contrast_classes(spectrum.weakest, distribution.class_names)
            weakest = {"contrast": spectrum.weakest, "classes": classes}
        entry = {
            "m": m,
            "samples": whole(_samples(distribution, m)),
            "kappa": spectrum.kappa,
            "kappa_max": spectrum.kappa_max,
            "anisotropy": spectrum.anisotropy,
            "kappa_covariance": covariance,
            "weakest": weakest,
        }
        multiplicities.append(entry)
    pooled = spectra["pooled"][0]
    return {
        "classes": distribution.classes,
        "samples": whole(distribution.samples),
        "unlabelled": distribution.unlabelled,
        "label_sets": len(distribution.counts),
        "multiplicities": multiplicities,
        "pooled": {"kappa": pooled.kappa, "kappa_max": pooled.kappa_max},
    }


def _spectrum_table(
    distribution: LabelDistribution, spectra: Mapping[str, tuple[Spectrum, float | None]], target: Target
) -> str:
    rows = [["m", "samples", "share", "κ", "κ_max", "δ", "κ (covariance)", "weakest contrast"]]
    for name, (spectrum, covariance) in spectra.items():
        samples = distribution.samples if name == "pooled" else _samples(distribution, int(name))
        row = [name, format_count(samples), f"{samples / distribution.samples:.3f}"]
        row += [f"{spectrum.kappa:.4g}", f"{spectrum.kappa_max:.4g}"]
        row += ["" if math.isnan(spectrum.anisotropy) else f"{spectrum.anisotropy:.3f}"]
        row += ["" if covariance is None else f"{covariance:.4g}", _weakest(spectrum, distribution)]
        rows.append(row)
    note = f"κ: weakest contrast of C_m, (4); pooled: of C_pool, (6), with the {target} target; δ = 1 - κ/κ_max"
    return f"{format_table(rows)}\n\n{note}"


def _weakest(spectrum: Spectrum, distribution: LabelDistribution) -> str:
    from ncpipe.labels.distribution import contrast_classes
    from ncpipe.labels.spectrum import is_isotropic

    if spectrum.kappa_max == 0:
        return "no contrast: every class is present"
    if is_isotropic(spectrum.anisotropy):
        return "all contrasts alike"
    return format_contrast(contrast_classes(spectrum.weakest, distribution.class_names), most=_NAMES_SHOWN)


# --- optimum ------------------------------------------------------------------------------------------------------


def _optimum(options: argparse.Namespace) -> int:
    import numpy as np

    from ncpipe.objective.terms import radius
    from ncpipe.optimum.laws import margin_laws
    from ncpipe.optimum.optimum import solve
    from ncpipe.optimum.relu import solve_relu

    unweighted = _objective(options)
    if options.plot is not None and (options.class_weights is not None or unweighted.variant):
        raise InputError(
            "--plot: draws (20) and (21) for loss pal without class weights, with a learned classifier only"
        )
    distribution = _read_small(options)
    objective = _weigh_classes(unweighted, options.class_weights, distribution)
    rtol, started = options.rtol, time.perf_counter()
    with ticking("optimum"):
        optimum = solve_relu(distribution, objective) if options.relu else solve(distribution, objective, rtol=rtol)
    seconds = time.perf_counter() - started
    residual = radius(distribution, objective, gap=optimum.objective - optimum.lower_bound, nonnegative=options.relu)
    margins = margin_laws(distribution, objective, logits=optimum.logits, radius=residual)
    payload = {
        "objective": optimum.objective,
        "dual_bound": optimum.lower_bound,
        "relative_gap": optimum.relative_gap,
        "certified": optimum.relative_gap <= rtol,
        "rank": None if options.relu else optimum.rank,
        "iterations": None if options.relu else optimum.iterations,
        "seconds": seconds,
    }
    if options.json:
        print_json(payload)
    else:
        print(_title(options, distribution))
        print(f"{_describe(objective)}{', features h >= 0' if options.relu else ''}\n")
        print(f"{_optimum_table(payload, distribution, objective, rtol)}\n")
        print(_margin_table(margins, optimum.probabilities, distribution, objective))
    if options.out is not None:
        arrays = {name: value for name, value in optimum.to_json().items() if isinstance(value, np.ndarray)}
        write_values(options.out, payload, {**_distribution_values(distribution), **arrays})
    if options.plot is not None:
        from ncpipe.command.plots import draw_optimum

        draw_optimum(options.plot, optimum.probabilities, margins, residual, distribution, objective)
    if payload["certified"]:
        return 0
    asked = f"asked for was a relative gap of {rtol:g}, reached {optimum.relative_gap:.2g}"
    print(f"ncpipe optimum: not certified: {asked}", file=sys.stderr)
    return EXIT_NOT_CERTIFIED


def _objective(options: argparse.Namespace) -> Objective:
    """The objective that the flags describe, class weights apart."""
    from ncpipe.objective.settings import Objective

    penalised = options.bias == "penalised"
    if penalised and options.lambda_b is None:
        raise InputError("--lambda-b: missing; --bias penalised needs it, allowed: a number > 0")
    if not penalised and options.lambda_b is not None:
        raise InputError(f"--lambda-b: found with --bias {options.bias}; allowed with --bias penalised only")
    facts = LOSS_FACTS[options.loss]
    if options.target not in facts.targets:
        raise InputError(f"--loss: found {options.loss}; it takes the labels as they are, allowed with --raw")
    if not facts.class_weights and options.class_weights is not None:
        raise InputError(f"--class-weights: found with --loss {options.loss}; allowed with --loss pal only")
    return Objective(
        target=options.target,
        lambda_w=options.lambda_w,
        lambda_h=options.lambda_h,
        lambda_b=options.lambda_b if penalised else 0.0,
        use_bias=options.bias != "none",
        loss=options.loss,
        classifier=options.classifier,
    )


def _weigh_classes(
    objective: Objective, weights: Literal["balanced"] | tuple[float, ...] | None, distribution: LabelDistribution
) -> Objective:
    """The objective with the class weights that were asked for."""
    from dataclasses import replace

    from ncpipe.experiment.plan import balanced_class_weights

    if weights is None:
        return objective
    if isinstance(weights, str):
        mass = distribution.counts @ objective.targets(distribution)
        if not mass.all():
            unseen = distribution.class_names[int(mass.argmin())]
            raise InputError(f"--class-weights: found balanced; class {unseen} has no sample, allowed: a list")
        return replace(objective, class_weights=tuple(balanced_class_weights(mass.tolist())))
    if len(weights) != distribution.classes:
        raise InputError(
            f"--class-weights: found {len(weights)} numbers; allowed: one for each of the {distribution.classes} "
            f"classes"
        )
    return replace(objective, class_weights=weights)


def _describe(objective: Objective) -> str:
    bias = {"none": "no bias", "free": "a free bias"}.get(
        objective.bias_mode, f"a bias with λ_b = {objective.lambda_b:g}"
    )
    penalties = f"λ_W = {objective.lambda_w:g}, λ_H = {objective.lambda_h:g}, λ = {objective.lam:.4g}"
    variant = f"{objective.variant}, " if objective.variant else ""
    return f"{variant}{objective.target} target, {penalties}, {bias}"


def _optimum_table(
    payload: Mapping[str, Any], distribution: LabelDistribution, objective: Objective, rtol: float
) -> str:
    verdict = "certified" if payload["certified"] else "NOT certified"
    rows = [
        ["objective", f"{payload['objective']:.12g}", ""],
        ["lower bound", f"{payload['dual_bound']:.12g}", ""],
        ["relative gap", f"{payload['relative_gap']:.2g}", f"{verdict}, {rtol:g} asked for"],
    ]
    if payload["rank"] is not None:
        most = distribution.classes - (objective.facts.contrasts_only or objective.classifier == "etf")
        rows.append(["rank", str(payload["rank"]), f"of {most}"])
        rows.append(["iterations", str(payload["iterations"]), ""])
    rows.append(["seconds", f"{payload['seconds']:.2f}", ""])
    return format_table(rows, left=(0, 2))


def _margin_table(
    margins: tuple[np.ndarray, np.ndarray],
    probabilities: np.ndarray,
    distribution: LabelDistribution,
    objective: Objective,
) -> str:
    """The label sets that the optimum separates least."""
    import numpy as np

    margin, least = margins
    mass = (probabilities * distribution.multi_hot()).sum(axis=1)
    title = "probability of its classes"
    if not objective.facts.one_distribution:
        mass, title = mass / distribution.multiplicity, "mean prediction of its classes"
    rows = [["label set", "samples", "smallest margin", "at least (21)", title]]
    for s in np.argsort(margin, kind="stable")[:_SETS_SHOWN]:
        sides = (f"{value:.4g}" if np.isfinite(value) else "" for value in (margin[s], least[s]))
        rows.append([*_set_cells(distribution, s), *sides, f"{mass[s]:.4f}"])
    return format_table(rows, left=(0,))


def _set_cells(distribution: LabelDistribution, position: int) -> tuple[str, str]:
    """Name and samples of a label set."""
    name = label_set_name(distribution.label_sets[position], distribution.class_names)
    return name, format_count(distribution.counts[position])


def _distribution_values(distribution: LabelDistribution) -> dict[str, Any]:
    """Label sets as arrays: multi-hot rows, their samples, the names of the columns."""
    return {
        "class_names": list(distribution.class_names),
        "label_sets": distribution.multi_hot().astype("uint8"),
        "counts": distribution.counts,
    }


# --- rebalance ----------------------------------------------------------------------------------------------------


def _rebalance(options: argparse.Namespace) -> int:
    from ncpipe.labels.rebalance import frequency_weights, rebalance
    from ncpipe.labels.sampling import resampled
    from ncpipe.labels.spectrum import pooled_spectrum

    distribution = _read_small(options)
    with ticking("rebalance"):
        rebalancing = rebalance(distribution, options.target, cap=options.rho)
        schemes = []
        for scheme in _SCHEMES:
            weights = frequency_weights(distribution, scheme)  # type: ignore[arg-type]
            kappa = pooled_spectrum(resampled(distribution, weights), options.target).kappa
            schemes.append({"scheme": scheme, "kappa": kappa, "largest_change": _change(weights, distribution)})
    factors = rebalancing.weights / distribution.weights
    payload = {
        "rho": options.rho,
        "kappa_before": rebalancing.kappa_before,
        "kappa": rebalancing.kappa,
        "upper_bound": rebalancing.upper_bound,
        "largest_change": _change(rebalancing.weights, distribution),
        "schemes": schemes,
    }
    if options.json:
        print_json(payload)
    else:
        print(f"{_title(options, distribution)}\n\n{_schemes_table(payload)}\n")
        print(f"no weights within a factor of {options.rho:g} reach more than κ_pool = {rebalancing.upper_bound:.4g}\n")
        print(_factors_table(factors, distribution))
    if options.out is not None:
        values = {**_distribution_values(distribution), "weights": rebalancing.weights, "factors": factors}
        write_values(options.out, payload, values)
    if options.plot is not None:
        from ncpipe.command.plots import draw_rebalancing

        draw_rebalancing(options.plot, rebalancing, schemes, distribution)
    return 0


def _change(weights: np.ndarray, distribution: LabelDistribution) -> float:
    """Largest factor by which a label set's share grows or shrinks."""
    ratio = weights / distribution.weights
    return float(max(ratio.max(), 1 / ratio.min()))


def _schemes_table(payload: Mapping[str, Any]) -> str:
    rows = [["weights", "κ_pool", "largest change"], ["as they are", f"{payload['kappa_before']:.4g}", "1"]]
    for entry in ({"scheme": "max_kappa (19)", **payload}, *payload["schemes"]):
        rows.append([entry["scheme"], f"{entry['kappa']:.4g}", f"{entry['largest_change']:.3g}"])
    return format_table(rows, left=(0,))


def _factors_table(factors: np.ndarray, distribution: LabelDistribution) -> str:
    """The label sets whose samples count most, and least."""
    import numpy as np

    order = np.argsort(-factors, kind="stable")
    shown = order if len(order) <= 2 * _SETS_SHOWN else np.r_[order[:_SETS_SHOWN], order[-_SETS_SHOWN:]]
    rows = [["label set", "samples", "factor"]]
    rows += [[*_set_cells(distribution, s), f"{factors[s]:.3f}"] for s in shown]
    return format_table(rows, left=(0,))


# --- design -------------------------------------------------------------------------------------------------------


def _design(options: argparse.Namespace) -> int:
    from ncpipe.labels.files import write_labels

    distribution = _designed(options)
    with writing(options.file):
        write_labels(options.file, distribution)
    spectra = _spectra(distribution, "normalised")
    if options.json:
        print_json(_spectrum_payload(distribution, spectra))
    else:
        print(f"{_title(options, distribution)}\n\n{_spectrum_table(distribution, spectra, 'normalised')}")
    return 0


def _designed(options: argparse.Namespace) -> LabelDistribution:
    """The distribution that the flags describe."""
    from ncpipe.labels import design
    from ncpipe.labels.distribution import LabelDistribution

    if options.strength is not None and options.pairs != "correlated":
        raise InputError(f"--strength: found with --pairs {options.pairs}; allowed with --pairs correlated only")
    if options.multiplicity is not None and options.kappa is None:
        raise InputError("--multiplicity: found without --kappa; allowed with it only")
    classes = options.classes
    total = options.per_pair * classes * (classes - 1) / 2
    singles = design.step_counts(classes, options.alone, options.ratio)
    alike = design.singles_and_pairs(singles, design.complete_pairs(classes, total))
    if options.block is None:
        designed = design.singles_and_pairs(singles, _designed_pairs(options, total))
    else:
        block = options.block
        if len(set(block)) != len(block) or max(block) >= classes or len(block) == 1:
            listing = ",".join(map(str, block))
            raise InputError(f"--block: found {listing}; allowed: two or more different classes below {classes}")
        counts = {(k,): float(n) for k, n in enumerate(singles)} | design.cyclic_design(classes, block, total)
        designed = LabelDistribution.from_counts(counts, classes)
    if options.kappa is None:
        return designed
    try:
        return design.mixture_with_kappa(alike, designed, options.kappa, multiplicity=options.multiplicity)
    except ValueError as error:
        raise InputError(f"--{error}") from error


def _designed_pairs(options: argparse.Namespace, total: float) -> np.ndarray:
    """Samples of every pair of classes, (K, K)."""
    from ncpipe.labels import design
    from ncpipe.streams import stream

    classes, rng = options.classes, stream(options.seed, "design", "command")
    try:
        match options.pairs:
            case "complete":
                pairs = design.complete_pairs(classes, total)
            case "matching":
                pairs = design.matching_pairs(classes, total)
            case "bipartite":
                pairs = design.bipartite_pairs(classes, total)
            case "random":
                pairs = design.random_regular_pairs(classes, total, rng)
            case _:
                strength = 1.0 if options.strength is None else options.strength
                pairs = design.correlated_pairs(classes, total, strength, rng)
    except ValueError as error:
        raise InputError(f"--pairs {options.pairs}: {error}") from error
    return design.relabel_pairs(pairs, rng.permutation(classes)) if options.relabel else pairs


# --- shared -------------------------------------------------------------------------------------------------------


def _read(options: argparse.Namespace) -> LabelDistribution:
    from ncpipe.labels.files import read_labels

    with ticking("reading"):
        return read_labels(
            options.file,
            key=options.key,
            header=_has_header(options),
            present=options.present,
            labels=options.labels,
            first_class=options.first_class,
            classes=options.classes,
            split=options.split,
        )


def _has_header(options: argparse.Namespace) -> bool | None:
    answer = getattr(options, "header", None)  # `design` reads no file
    return None if answer is None else answer == "yes"


def _read_small(options: argparse.Namespace) -> LabelDistribution:
    """Read labels for work on dense arrays, of one row for each label set."""
    distribution = _read(options)
    sets, classes = len(distribution.counts), distribution.classes
    if sets * classes > _MOST_ENTRIES:
        raise InputError(
            f"{options.file}: found {sets:,} label sets of {classes:,} classes; allowed: a product of at most "
            f"{_MOST_ENTRIES:,} (`ncpipe spectrum` has no such limit)"
        )
    return distribution


def _title(options: argparse.Namespace, distribution: LabelDistribution) -> str:
    """What was read, in a line, and for a table as text what was taken for its header, in another."""
    from ncpipe.labels.files import class_names_line

    mean = float(distribution.weights @ distribution.multiplicity)
    left_out = f"; {distribution.unlabelled:,} without a label, left out" if distribution.unlabelled else ""
    names = class_names_line(options.file, header=_has_header(options))
    more = ", …" if names is not None and len(names) > _SETS_SHOWN else ""
    header = "" if names is None else f"\nthe first line names the classes: {', '.join(names[:_SETS_SHOWN])}{more}"
    return (
        f"{options.file}: {format_count(distribution.samples)} samples of {distribution.classes:,} classes in "
        f"{len(distribution.counts):,} label sets, mean multiplicity {mean:.3f}{left_out}{header}"
    )

"""``ncpipe spectrum``, ``optimum``, ``rebalance`` and ``design``: what the labels alone say, for any label file.

Each prints a table, or with ``--json`` one JSON object whose keys are a contract (docs/theory/command-line.md). Exit
codes: 0, 2 for input that cannot be used, 3 for an optimum that is not certified to the gap asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncpipe.labels.names import label_set_name

if TYPE_CHECKING:
    import numpy as np

    from ncpipe.labels.distribution import LabelDistribution, Target
    from ncpipe.labels.spectrum import Spectrum
    from ncpipe.objective.settings import Objective
    from ncpipe.optimum.optimum import Optimum
    from ncpipe.optimum.relu import ReluOptimum

EXIT_NOT_CERTIFIED = 3

_BIASES = ("none", "penalised", "free")
_LOSSES = ("pal", "bce", "mse")
_CLASSIFIERS = ("learned", "etf")
_PAIRS = ("complete", "matching", "bipartite", "random", "correlated")
_SCHEMES = ("class_balanced", "inverse_frequency", "effective_number")
_PLOTS = (".png", ".svg", ".pdf")
_MOST_ENTRIES = 100_000_000  # label sets times classes: 0.8 GB in each of several dense arrays
_LARGEST_DESIGN = 1000  # classes: half a million pairs
_NAMES_SHOWN = 3
_SETS_SHOWN = 6
_ISOTROPIC = 1e-9
_TICK_SECONDS = 0.5


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this stage's commands."""
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
    optimum.add_argument("--lambda-w", metavar="X", help="penalty on the classifier, > 0 (required)")
    optimum.add_argument("--lambda-h", metavar="X", help="penalty on the features, per sample, > 0 (required)")
    optimum.add_argument("--bias", default="none", metavar="MODE", help="none, penalised or free (default: none)")
    optimum.add_argument("--lambda-b", metavar="X", help="penalty on the bias, > 0, for --bias penalised")
    _add_target(optimum)
    optimum.add_argument("--loss", default="pal", metavar="NAME", help="pal, bce (with --raw) or mse (default: pal)")
    optimum.add_argument("--class-weights", metavar="C", help="of pal: balanced, or a number for each class: 1,2.5,...")
    optimum.add_argument("--classifier", default="learned", metavar="KIND", help="learned or etf, a fixed simplex ETF")
    optimum.add_argument("--relu", action="store_true", help="features h >= 0, as after a ReLU (9a)")
    optimum.add_argument("--rtol", default="1e-6", metavar="X", help="relative gap to certify (default: 1e-6)")
    _add_output(optimum, "classifier, prototypes, logits and the dual point")
    optimum.set_defaults(func=_optimum)

    rebalance = subparsers.add_parser(
        "rebalance",
        help="sampling weights that strengthen the weakest contrast",
        description="Sampling weights over the label sets of FILE that maximise the weakest contrast (19), each within "
        "a factor --rho of its share, compared with weights from class frequencies.",
    )
    _add_input(rebalance)
    rebalance.add_argument("--rho", default="2", metavar="X", help="largest change of a label set's share (default: 2)")
    _add_target(rebalance)
    _add_output(rebalance, "the weight of every label set")
    rebalance.set_defaults(func=_rebalance)

    design = subparsers.add_parser(
        "design",
        help="write a label file with chosen marginals and correlations",
        description="Design a label distribution, write it to FILE (.json: label sets and counts; .npz: one row per "
        "sample) and print its spectrum. Every graph of pairs is regular: each class is in equally many.",
    )
    design.add_argument("file", type=Path, metavar="FILE", help="label file to write, .json or .npz")
    design.add_argument("--classes", default="10", metavar="K", help="number of classes (default: 10)")
    design.add_argument("--alone", default="3100", metavar="N", help="samples of each class alone (default: 3100)")
    design.add_argument("--ratio", default="1", metavar="R", help="of the second half of the classes (default: 1)")
    design.add_argument("--pairs", default="complete", metavar="KIND", help=f"{', '.join(_PAIRS)} (default: complete)")
    design.add_argument("--per-pair", default="200", metavar="N", help="samples per pair on average (default: 200)")
    design.add_argument("--strength", metavar="X", help="of --pairs correlated: 0 is independent (default: 1)")
    design.add_argument("--relabel", action="store_true", help="permute the classes of the pairs at random")
    design.add_argument("--block", metavar="A,B,...", help="instead of pairs the label sets block + i modulo K")
    design.add_argument("--kappa", metavar="X", help="mix with all pairs alike until the weakest contrast is X")
    design.add_argument("--multiplicity", metavar="M", help="of --kappa: κ_M (default: pooled)")
    design.add_argument("--seed", default="0", metavar="N", help="of everything random (default: 0)")
    design.add_argument("--json", action="store_true", help="print one JSON object, as `ncpipe spectrum` does")
    design.set_defaults(func=_design)


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="labels: .npz .npy .csv .arff .svm .json or a folder")
    reading = parser.add_argument_group("reading FILE")
    reading.add_argument("--key", help="of .npz: the label matrix (default: Y)")
    reading.add_argument(
        "--present", metavar="X", help="of .npz, .npy: the entry of a label that is there, all others are absent"
    )
    reading.add_argument(
        "--labels", metavar="N|XML", help="of .arff: the first N (last -N) attributes, or a label list"
    )
    reading.add_argument("--first-class", metavar="0|1", help="of svmlight: number of the first class")
    reading.add_argument("--classes", metavar="K", help="of svmlight: number of classes")
    reading.add_argument("--split", help="of a run's or data set's folder: train or test (default: train)")


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--raw", action="store_true", help="target y instead of y/m")


def _add_output(parser: argparse.ArgumentParser, content: str) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"write {content} too: .json or .npz")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .png, .svg or .pdf")


# --- spectrum -----------------------------------------------------------------------------------------------------


def _spectrum(options: argparse.Namespace) -> int:
    _check_outputs(options)
    distribution = _read(options)
    with _ticking("spectrum"):
        spectra = _spectra(distribution, _target(options))
    payload = _spectrum_payload(distribution, spectra)
    if options.json:
        _print_json(payload)
    else:
        print(_title(options.file, distribution))
        print()
        print(_spectrum_table(distribution, spectra, _target(options)))
    if options.out is not None:
        values: dict[str, Any] = {"class_names": list(distribution.class_names)}
        values |= {f"eigenvalues_{name}": spectrum.eigenvalues for name, (spectrum, _) in spectra.items()}
        values |= {f"weakest_{name}": spectrum.weakest for name, (spectrum, _) in spectra.items()}
        _write(options.out, payload, values)
    if options.plot is not None:
        from ncpipe.command.plots import draw_spectra

        draw_spectra(options.plot, {name: spectrum for name, (spectrum, _) in spectra.items()}, distribution)
    return 0


def _spectra(distribution: LabelDistribution, target: Target) -> dict[str, tuple[Spectrum, float | None]]:
    """Spectrum of every multiplicity, by its name, with κ of the covariance; and of ``pooled``, without."""
    from ncpipe.labels.spectrum import kappa_covariance, multiplicity_spectrum, pooled_spectrum

    spectra: dict[str, tuple[Spectrum, float | None]] = {
        str(m): (multiplicity_spectrum(distribution, m), kappa_covariance(distribution, m))
        for m in distribution.multiplicities
    }
    return spectra | {"pooled": (pooled_spectrum(distribution, target), None)}


def _spectrum_payload(
    distribution: LabelDistribution, spectra: Mapping[str, tuple[Spectrum, float | None]]
) -> dict[str, Any]:
    from ncpipe.labels.distribution import contrast_classes
    from ncpipe.labels.files import whole

    multiplicities = []
    for m in distribution.multiplicities:
        spectrum, covariance = spectra[str(m)]
        defined = spectrum.kappa_max > 0  # where all classes are present, there is no contrast
        classes = contrast_classes(spectrum.weakest, distribution.class_names)
        multiplicities.append({
            "m": m,
            "samples": whole(float(distribution.counts[distribution.multiplicity == m].sum())),
            "kappa": spectrum.kappa,
            "kappa_max": spectrum.kappa_max,
            "anisotropy": spectrum.anisotropy,
            "kappa_covariance": covariance,
            "weakest": {"contrast": spectrum.weakest, "classes": classes} if defined else None,
        })  # fmt: skip
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
        if name == "pooled":
            samples = distribution.samples
        else:
            samples = float(distribution.counts[distribution.multiplicity == int(name)].sum())
        rows.append([
            name,
            f"{samples:,.10g}",
            f"{samples / distribution.samples:.3f}",
            f"{spectrum.kappa:.4g}",
            f"{spectrum.kappa_max:.4g}",
            "" if math.isnan(spectrum.anisotropy) else f"{spectrum.anisotropy:.3f}",
            "" if covariance is None else f"{covariance:.4g}",
            _weakest(spectrum, distribution),
        ])  # fmt: skip
    note = f"κ: weakest contrast of C_m, (4); pooled: of C_pool, (6), with the {target} target; δ = 1 - κ/κ_max"
    return f"{_table(rows)}\n\n{note}"


def _weakest(spectrum: Spectrum, distribution: LabelDistribution) -> str:
    from ncpipe.labels.distribution import contrast_classes

    if spectrum.kappa_max == 0:
        return "no contrast: every class is present"
    if spectrum.anisotropy <= _ISOTROPIC:
        return "all contrasts alike"
    return _against(contrast_classes(spectrum.weakest, distribution.class_names))


def _against(sides: Sequence[Sequence[str]]) -> str:
    """Name a contrast: ``a, b against c``, shortened where classes are many."""
    shown = []
    for side in sides:
        more = len(side) - _NAMES_SHOWN
        shown.append(", ".join(side[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else ""))
    return " against ".join(shown)


# --- optimum ------------------------------------------------------------------------------------------------------


def _optimum(options: argparse.Namespace) -> int:
    import numpy as np

    from ncpipe.errors import InputError
    from ncpipe.objective.terms import radius
    from ncpipe.optimum.laws import margin_laws
    from ncpipe.optimum.optimum import solve
    from ncpipe.optimum.relu import ReluOptimum, solve_relu

    _check_outputs(options)
    rtol = _number("--rtol", options.rtol)
    plain = _objective(options)
    if options.plot is not None and (options.class_weights is not None or plain.variant):
        raise InputError(
            "--plot: draws (20) and (21) for loss pal without class weights, with a learned classifier only"
        )
    distribution = _read_small(options)
    objective = _weigh_classes(plain, options, distribution)
    started = time.perf_counter()
    found: Optimum | ReluOptimum
    with _ticking("optimum"):
        found = solve_relu(distribution, objective) if options.relu else solve(distribution, objective, rtol=rtol)
    seconds = time.perf_counter() - started
    bound = found.lower_bound if isinstance(found, ReluOptimum) else found.dual_bound
    certified = found.relative_gap <= rtol
    residual = radius(distribution, objective, found.objective - bound, nonnegative=options.relu)
    margins = margin_laws(found.logits, distribution, objective, residual)
    payload = {
        "objective": found.objective,
        "dual_bound": bound,
        "relative_gap": found.relative_gap,
        "certified": certified,
        "rank": getattr(found, "rank", None),
        "iterations": getattr(found, "iterations", None),
        "seconds": seconds,
    }
    if options.json:
        _print_json(payload)
    else:
        print(_title(options.file, distribution))
        print(f"{_describe(objective)}{', features h >= 0' if options.relu else ''}")
        print()
        print(_optimum_table(payload, distribution, objective, rtol))
        print()
        print(_margin_table(margins, found.probabilities, distribution, objective))
    if options.out is not None:
        arrays = {name: value for name, value in vars(found).items() if isinstance(value, np.ndarray)}
        _write(options.out, payload, {**_distribution_values(distribution), **arrays})
    if options.plot is not None:
        from ncpipe.command.plots import draw_optimum

        draw_optimum(options.plot, found.probabilities, margins, residual, distribution, objective)
    if certified:
        return 0
    asked = f"asked for was a relative gap of {rtol:g}, reached {found.relative_gap:.2g}"
    print(f"ncpipe optimum: not certified: {asked}", file=sys.stderr)
    return EXIT_NOT_CERTIFIED


def _objective(options: argparse.Namespace) -> Objective:
    from ncpipe.errors import InputError
    from ncpipe.objective.settings import Objective

    if options.bias not in _BIASES:
        raise InputError(f"--bias: found {options.bias!r}; allowed are {', '.join(_BIASES)}")
    if options.lambda_b is not None and options.bias != "penalised":
        raise InputError(f"--lambda-b: found with --bias {options.bias}; allowed with --bias penalised only")
    for flag, found, allowed in (("--loss", options.loss, _LOSSES), ("--classifier", options.classifier, _CLASSIFIERS)):
        if found not in allowed:
            raise InputError(f"{flag}: found {found!r}; allowed are {', '.join(allowed)}")
    if options.loss == "bce" and not options.raw:
        raise InputError("--loss: found bce; it takes the labels as they are, allowed with --raw")
    if options.loss != "pal" and options.class_weights is not None:
        raise InputError(f"--class-weights: found with --loss {options.loss}; allowed with --loss pal only")
    return Objective(
        target=_target(options),
        lambda_w=_number("--lambda-w", options.lambda_w),
        lambda_h=_number("--lambda-h", options.lambda_h),
        lambda_b=_number("--lambda-b", options.lambda_b) if options.bias == "penalised" else 0.0,
        use_bias=options.bias != "none",
        loss=options.loss,
        classifier=options.classifier,
    )


def _weigh_classes(objective: Objective, options: argparse.Namespace, distribution: LabelDistribution) -> Objective:
    """The objective with the class weights that were asked for."""
    from dataclasses import replace

    from ncpipe.errors import InputError
    from ncpipe.experiment.plan import balanced_class_weights

    if options.class_weights is None:
        return objective
    if options.class_weights == "balanced":
        mass = distribution.counts @ objective.targets(distribution)
        if not mass.all():
            unseen = distribution.class_names[int(mass.argmin())]
            raise InputError(f"--class-weights: found balanced; class {unseen} has no sample, allowed: a list")
        return replace(objective, class_weights=tuple(balanced_class_weights(mass.tolist())))
    weights = tuple(_number("--class-weights", part) for part in options.class_weights.split(","))
    if len(weights) != distribution.classes:
        raise InputError(
            f"--class-weights: found {len(weights)} numbers; allowed is one for each of the {distribution.classes} "
            f"classes"
        )
    return replace(objective, class_weights=weights)


def _describe(objective: Objective) -> str:
    bias = {"none": "no bias", "free": "a free bias"}.get(objective.bias, f"a bias with λ_b = {objective.lambda_b:g}")
    penalties = f"λ_W = {objective.lambda_w:g}, λ_H = {objective.lambda_h:g}, λ = {objective.lam:.4g}"
    variant = f"{objective.variant}, " if objective.variant else ""
    return f"{variant}{objective.target} target, {penalties}, {bias}"


def _optimum_table(
    payload: Mapping[str, Any], distribution: LabelDistribution, objective: Objective, rtol: float
) -> str:
    verdict = "certified" if payload["certified"] else "NOT certified"
    rows = [
        ["objective", f"{payload['objective']:.12g}"],
        ["lower bound", f"{payload['dual_bound']:.12g}"],
        ["relative gap", f"{payload['relative_gap']:.2g}", f"{verdict}, {rtol:g} asked for"],
    ]
    if payload["rank"] is not None:
        most = distribution.classes - (objective.loss == "pal" or objective.classifier == "etf")
        rows.append(["rank", str(payload["rank"]), f"of {most}"])
        rows.append(["iterations", str(payload["iterations"])])
    rows.append(["seconds", f"{payload['seconds']:.2f}"])
    return _table([[*row, ""][:3] for row in rows], left=(0, 2))


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
    if objective.loss != "pal":
        mass, title = mass / distribution.multiplicity, "mean prediction of its classes"
    rows = [["label set", "samples", "smallest margin", "at least (21)", title]]
    for s in np.argsort(margin, kind="stable")[:_SETS_SHOWN]:
        sides = (f"{value:.4g}" if np.isfinite(value) else "" for value in (margin[s], least[s]))
        rows.append([_set_name(distribution, s), f"{distribution.counts[s]:,.10g}", *sides, f"{mass[s]:.4f}"])
    return _table(rows, left=(0,))


def _set_name(distribution: LabelDistribution, position: int) -> str:
    return label_set_name(distribution.label_sets[position], distribution.class_names)


def _distribution_values(distribution: LabelDistribution) -> dict[str, Any]:
    """Label sets as arrays: multi-hot rows, their samples, the names of the columns."""
    return {
        "class_names": list(distribution.class_names),
        "label_sets": distribution.multi_hot().astype("uint8"),
        "counts": distribution.counts,
    }


# --- rebalance ----------------------------------------------------------------------------------------------------


def _rebalance(options: argparse.Namespace) -> int:
    import numpy as np

    from ncpipe.labels.rebalance import frequency_weights, rebalance
    from ncpipe.labels.sampling import resampled
    from ncpipe.labels.spectrum import pooled_spectrum

    _check_outputs(options)
    cap, target = _number("--rho", options.rho, least=1.0), _target(options)
    distribution = _read_small(options)
    with _ticking("rebalance"):
        found = rebalance(distribution, target, cap=cap)
        schemes = []
        for scheme in _SCHEMES:
            weights = frequency_weights(distribution, scheme)  # type: ignore[arg-type]
            kappa = pooled_spectrum(resampled(distribution, weights), target).kappa
            schemes.append({"scheme": scheme, "kappa": kappa, "largest_change": _change(weights, distribution)})
    factors = found.weights / distribution.weights
    payload = {
        "rho": cap,
        "kappa_before": found.kappa_before,
        "kappa": found.kappa,
        "upper_bound": found.upper_bound,
        "largest_change": _change(found.weights, distribution),
        "schemes": schemes,
    }
    if options.json:
        _print_json(payload)
    else:
        print(_title(options.file, distribution))
        print()
        rows = [["weights", "κ_pool", "largest change"], ["as they are", f"{found.kappa_before:.4g}", "1"]]
        for entry in [{"scheme": "max_kappa (19)", **payload}, *schemes]:
            rows.append([str(entry["scheme"]), f"{entry['kappa']:.4g}", f"{entry['largest_change']:.3g}"])
        print(_table(rows, left=(0,)))
        print(f"\nno weights within a factor of {cap:g} reach more than κ_pool = {found.upper_bound:.4g}\n")
        rows = [["label set", "samples", "factor"]]
        order = np.argsort(-factors, kind="stable")
        shown = order if len(order) <= 2 * _SETS_SHOWN else np.r_[order[:_SETS_SHOWN], order[-_SETS_SHOWN:]]
        for s in shown:
            rows.append([_set_name(distribution, s), f"{distribution.counts[s]:,.10g}", f"{factors[s]:.3f}"])
        print(_table(rows, left=(0,)))
    if options.out is not None:
        values = {**_distribution_values(distribution), "weights": found.weights, "factors": factors}
        _write(options.out, payload, values)
    if options.plot is not None:
        from ncpipe.command.plots import draw_rebalancing

        draw_rebalancing(options.plot, found, schemes, distribution)
    return 0


def _change(weights: np.ndarray, distribution: LabelDistribution) -> float:
    """Largest factor by which a label set's share grows or shrinks."""
    ratio = weights / distribution.weights
    return float(max(ratio.max(), 1 / ratio.min()))


# --- design -------------------------------------------------------------------------------------------------------


def _design(options: argparse.Namespace) -> int:
    from ncpipe.errors import InputError
    from ncpipe.labels.files import write_labels

    if options.file.suffix not in (".json", ".npz"):
        raise InputError(f"{options.file}: found suffix {options.file.suffix!r}; allowed are .json, .npz")
    distribution = _designed(options)
    with _writing(options.file):
        write_labels(options.file, distribution)
    with _ticking("spectrum"):
        spectra = _spectra(distribution, "normalised")
    if options.json:
        _print_json(_spectrum_payload(distribution, spectra))
    else:
        print(_title(options.file, distribution))
        print()
        print(_spectrum_table(distribution, spectra, "normalised"))
    return 0


def _designed(options: argparse.Namespace) -> LabelDistribution:
    import numpy as np

    from ncpipe.errors import InputError
    from ncpipe.labels import design
    from ncpipe.labels.distribution import LabelDistribution
    from ncpipe.streams import stream

    classes = _whole("--classes", options.classes, least=2, most=_LARGEST_DESIGN)
    alone = _number("--alone", options.alone, least=0.0)
    ratio = _number("--ratio", options.ratio, least=0.0)
    total = _number("--per-pair", options.per_pair, least=0.0) * classes * (classes - 1) / 2
    rng = stream(_whole("--seed", options.seed, least=0), "design", "command")
    if options.strength is not None and options.pairs != "correlated":
        raise InputError(f"--strength: found with --pairs {options.pairs}; allowed with --pairs correlated only")
    if options.multiplicity is not None and options.kappa is None:
        raise InputError("--multiplicity: found without --kappa; allowed with it only")
    singles = design.step_counts(classes, alone, ratio)
    alike = design.singles_and_pairs(singles, design.complete_pairs(classes, total))
    if options.block is not None:
        block = [_whole("--block", part, least=0) for part in options.block.split(",")]
        if len(set(block)) != len(block) or max(block) >= classes or len(block) == 1:
            raise InputError(
                f"--block: found {options.block}; allowed are two or more different classes below {classes}"
            )
        counts = {(k,): float(n) for k, n in enumerate(singles)} | design.cyclic_design(classes, block, total)
        designed = LabelDistribution.from_counts(counts, classes)
    else:
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
                case "correlated":
                    strength = 1.0 if options.strength is None else _number("--strength", options.strength, least=0.0)
                    pairs = design.correlated_pairs(classes, total, strength, rng)
                case _:
                    raise InputError(f"--pairs: found {options.pairs!r}; allowed are {', '.join(_PAIRS)}")
        except ValueError as error:
            raise InputError(f"--pairs {options.pairs}: {error}") from error
        if options.relabel:
            pairs = design.relabel_pairs(pairs, rng.permutation(np.arange(classes)))
        designed = design.singles_and_pairs(singles, pairs)
    if options.kappa is None:
        return designed
    kappa = _number("--kappa", options.kappa, least=0.0)
    m = None if options.multiplicity is None else _whole("--multiplicity", options.multiplicity, least=1)
    try:
        return design.mixture_with_kappa(alike, designed, kappa, multiplicity=m)
    except ValueError as error:
        raise InputError(f"--{error}") from error


# --- shared -------------------------------------------------------------------------------------------------------


def _read(options: argparse.Namespace) -> LabelDistribution:
    from ncpipe.labels.files import read_labels

    labels: int | Path | None = None
    if options.labels is not None:
        labels = Path(options.labels) if options.labels.endswith(".xml") else _whole("--labels", options.labels)
    present = None if options.present is None else _number("--present", options.present)
    first = None if options.first_class is None else _whole("--first-class", options.first_class)
    classes = None if options.classes is None else _whole("--classes", options.classes)
    with _ticking("reading"):
        return read_labels(
            options.file,
            key=options.key,
            present=present,
            labels=labels,
            first_class=first,
            classes=classes,
            split=options.split,
        )


def _read_small(options: argparse.Namespace) -> LabelDistribution:
    """Read labels for work on dense arrays, of one row for each label set."""
    from ncpipe.errors import InputError

    distribution = _read(options)
    sets, classes = len(distribution.counts), distribution.classes
    if sets * classes > _MOST_ENTRIES:
        raise InputError(
            f"{options.file}: found {sets:,} label sets of {classes:,} classes; allowed is a product of at most "
            f"{_MOST_ENTRIES:,} (`ncpipe spectrum` has no such limit)"
        )
    return distribution


def _target(options: argparse.Namespace) -> Target:
    return "raw" if options.raw else "normalised"


def _number(flag: str, text: str | None, *, least: float | None = None) -> float:
    """A finite number > 0, or >= `least` where it is given."""
    from ncpipe.errors import InputError

    allowed = "a number > 0" if least is None else f"a number >= {least:g}"
    if text is None:
        raise InputError(f"{flag}: missing; allowed is {allowed}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (value <= 0 if least is None else value < least):
        raise InputError(f"{flag}: found {text}; allowed is {allowed}")
    return value


def _whole(flag: str, text: str, *, least: int | None = None, most: int | None = None) -> int:
    from ncpipe.errors import InputError

    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or (least is not None and value < least) or (most is not None and value > most):
        bound = "" if least is None else f" >= {least}" if most is None else f" from {least} to {most}"
        raise InputError(f"{flag}: found {text}; allowed is a whole number{bound}")
    return value


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse a file that could not be written before the work, not after it."""
    from ncpipe.errors import InputError

    for flag, path, allowed in (("--out", options.out, (".json", ".npz")), ("--plot", options.plot, _PLOTS)):
        if path is not None and path.suffix.lower() not in allowed:
            raise InputError(f"{flag}: found suffix {path.suffix!r}; allowed are {', '.join(allowed)}")


def _title(path: Path, distribution: LabelDistribution) -> str:
    mean = float(distribution.weights @ distribution.multiplicity)
    left_out = f"; {distribution.unlabelled:,} without a label, left out" if distribution.unlabelled else ""
    return (
        f"{path}: {distribution.samples:,.10g} samples of {distribution.classes:,} classes in "
        f"{len(distribution.counts):,} label sets, mean multiplicity {mean:.3f}{left_out}"
    )


def _table(rows: Sequence[Sequence[str]], *, left: Sequence[int] | None = None) -> str:
    """Align columns: to the right, those in `left` (by default the last one) to the left."""
    left = (len(rows[0]) - 1,) if left is None else left
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """Builtins that JSON holds: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_json(payload: Mapping[str, Any]) -> None:
    import json

    print(json.dumps(_plain(payload), indent=1, allow_nan=False))


def _write(path: Path, payload: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write the printed object and the arrays: together in JSON, the numbers as 0-d arrays in .npz."""
    import io

    import numpy as np

    from ncpipe.stores.files import write_atomically, write_json

    with _writing(path):
        if path.suffix.lower() == ".json":
            write_json(path, _plain({**payload, **arrays}))
        else:
            scalars = {k: v for k, v in payload.items() if v is not None and not isinstance(v, list | dict)}
            content: dict[str, Any] = {k: np.asarray(v) for k, v in {**scalars, **arrays}.items()}
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **content)
            write_atomically(path, buffer.getvalue())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    from ncpipe.errors import InputError

    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def _ticking(what: str) -> Iterator[None]:
    """Show the seconds that pass, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from ncpipe.progress import clock

    done, started = threading.Event(), time.monotonic()

    def tick() -> None:
        shown = False
        while not done.wait(_TICK_SECONDS):
            shown = True
            print(f"\r{what}  {clock(time.monotonic() - started)}", end="", file=sys.stderr, flush=True)
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

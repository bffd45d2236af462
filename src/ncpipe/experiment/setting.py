"""A label distribution as the configuration defines it, as far as tables and verdicts need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ncpipe.experiment.plan import DEFAULT_BUDGET, DEFAULT_SAMPLING, DEFAULT_TOTAL, setting_sampling

SAMPLING_LABELS = {
    "natural": "as it is",
    "class_balanced": "class-balanced weights",
    "effective_number": "effective-number weights",
    "max_kappa": "max-κ weights",
}


@dataclass(frozen=True)
class Setting:
    """A label distribution as the configuration defines it, as far as tables and verdicts need it.

    Parameters
    ----------
    name : str
    profile : {"balanced", "step", "exponential", "uniform", "explicit"}
        The reading of r: over which classes multiplicity one is downsampled.
    ratio : float
        r; 1 where the profile has none.
    budget : {"epochs", "steps"}
        Whether training gets the epochs, or as many steps as the balanced setting.
    total : {"natural", "fixed"}
        Whether the other multiplicities keep their counts or, "fixed", their shares of the balanced setting.
    sampling : {"natural", "class_balanced", "effective_number", "max_kappa"}
        Weights of the label sets in training.
    cap : float or None
        ρ of ``max_kappa``.
    counts : tuple of (str, int)
        Samples of each label set where they are explicit.
    """

    name: str
    profile: str
    ratio: float = 1.0
    budget: str = "epochs"
    total: str = "natural"
    sampling: str = "natural"
    cap: float | None = None
    counts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_config(cls, name: str, entry: Mapping[str, Any]) -> Setting:
        """Build from a validated entry of ``settings`` in the configuration."""
        sampling = setting_sampling(entry) or {"method": DEFAULT_SAMPLING, "cap": None}
        return cls(
            name=name,
            profile=str(entry["profile"]),
            ratio=float(entry.get("ratio", 1.0)),
            budget=str(entry.get("budget", DEFAULT_BUDGET)),
            total=str(entry.get("total", DEFAULT_TOTAL)),
            sampling=sampling["method"],
            cap=sampling["cap"],
            counts=tuple(sorted(entry.get("counts", {}).items())),
        )

    @property
    def labels(self) -> tuple[object, ...]:
        """What tells its label distribution from that of other settings."""
        return self.profile, self.ratio, self.counts, self.total

    @property
    def controlled(self) -> bool:
        """Whether the setting changes more than imbalance: equal steps, fixed shares of multiplicities, weights."""
        return self.budget == "steps" or self.total == "fixed" or self.sampling != "natural"

    @property
    def imbalanced(self) -> bool:
        """Whether classes differ in frequency at multiplicity one, with nothing else held fixed."""
        return self.profile in ("step", "exponential") and self.ratio < 1 and not self.controlled

    @property
    def label(self) -> str:
        """What a figure calls it; names the reading of r wherever it shows r."""
        named = {"balanced": "balanced", "explicit": self.name}
        parts = [named.get(self.profile, f"{self.profile} r = {self.ratio:g}")]
        parts += ["equal steps"] if self.budget == "steps" else []
        parts += ["fixed shares"] if self.total == "fixed" else []
        parts += [SAMPLING_LABELS[self.sampling]] if self.sampling != "natural" else []
        parts += [f"cap {self.cap:g}"] if self.cap is not None else []
        return ", ".join(parts)


def settings_from_config(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Setting]:
    """Build the settings, in the order of the configuration, which is the order of every figure and table."""
    return {name: Setting.from_config(name, entry) for name, entry in entries.items()}


def baseline(settings: Mapping[str, Setting]) -> Setting | None:
    """Return the balanced setting that the others are compared with: the first without a control, or none."""
    return next((s for s in settings.values() if s.profile == "balanced" and not s.controlled), None)

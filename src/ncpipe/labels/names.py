"""What a label set is and how it is written, for code that must start fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

LabelSet = tuple[int, ...]

_Count = TypeVar("_Count", int, float)


def label_set_name(label_set: Iterable[int], class_names: Sequence[str] | None = None) -> str:
    """Name of a label set as users write it: ``"3"``, ``"0+7"``, or joined class names."""
    return "+".join(str(k) if class_names is None else class_names[k] for k in label_set)


def parse_label_set(name: str) -> LabelSet:
    """Classes of a label set written ``"3"`` or ``"7+0"``, ascending."""
    return tuple(sorted(map(int, name.split("+"))))


def parse_label_counts(counts: Mapping[str, _Count]) -> dict[LabelSet, _Count]:
    """Counts as a configuration writes them, ``{"0": 140, "8+9": 20}``, by label set."""
    return {parse_label_set(name): count for name, count in counts.items()}

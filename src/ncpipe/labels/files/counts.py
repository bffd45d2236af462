"""``.json``: label sets and counts, also those of a theory file."""

from __future__ import annotations

import json
from pathlib import Path

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.files.opening import open_text
from ncpipe.labels.files.rows import reason

_MOST_BYTES = 1 << 26  # of a compressed file: parsed, it takes ten times as much


def read_counts(path: Path) -> LabelDistribution:
    """Read label sets with counts, or shares; without counts each label set stands for one sample."""
    with open_text(path, most=_MOST_BYTES) as handle:
        text = handle.read()
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({reason(error)})") from error
    if isinstance(payload, dict) and "label_sets" not in payload:
        payload = payload.get("distribution", payload)
    if not isinstance(payload, dict) or "label_sets" not in payload:
        raise InputError(f"{path}: no key 'label_sets'; allowed is a list of lists of classes, counted from 0")
    label_sets = payload["label_sets"]
    if isinstance(label_sets, list):
        present = [k for label_set in label_sets if isinstance(label_set, list) for k in label_set]
        highest = max((k for k in present if isinstance(k, int)), default=0)
        payload = {"counts": [1] * len(label_sets), "classes": highest + 1} | payload
    try:
        return LabelDistribution.from_json(payload)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

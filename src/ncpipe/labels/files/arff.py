"""``.arff``: MEKA and Mulan, dense and sparse; only the labels are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.files.opening import open_text, split_name
from ncpipe.labels.files.rows import CELLS, Rows, cell, check_classes, fault, reason, shown, to_distribution

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_NAME = re.compile(
    r"""(?:(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<plain>(?:\\[^\s{]|\\(?=[\s{]|$)|[^\s'"{\\])+))(?=[\s{]|$)"""
)
_VALUE = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,'"]*)\s*(?:,|$)""")
_ESCAPE = re.compile(r"\\(.)")
_PLAIN_ESCAPE = re.compile(r"\\([^\w\s]|_)")  # a backslash before a letter stands for itself
_MEKA = re.compile(r"[:\s]-[Cc]\s+(-?\d{1,9})(?!\d)")
_TYPES = ("numeric", "real", "integer", "string", "date")


@dataclass(frozen=True)
class _Attribute:
    name: str
    values: list[str] | None  # None: not nominal
    line: int


@dataclass(frozen=True)
class _ArffHeader:
    relation: str
    attributes: list[_Attribute]


def read_arff(path: Path, *, labels: int | Path | None = None) -> LabelDistribution:
    """Read the attributes that the relation (MEKA), a label list (Mulan) or the caller says are labels."""
    # Bytes that are not UTF-8 may stand in values that nobody reads.
    with open_text(path, errors="surrogateescape") as handle:
        lines = enumerate(handle, start=1)
        header = _arff_header(path, lines)
        chosen = _arff_labels(path, header, labels)
        attributes = [header.attributes[i] for i in chosen]
        for attribute in attributes:
            if attribute.values is not None and not all(cell(value) is not None for value in attribute.values):
                found = ",".join(attribute.values)
                fault(
                    path,
                    attribute.line,
                    f"label {shown(attribute.name)}: found values {shown('{' + found + '}')}; allowed are 0 and 1",
                )
        check_classes(path, len(chosen))
        rows = _arff_rows(path, lines, header, chosen)
    return to_distribution(path, rows.matrix(len(chosen)), [attribute.name for attribute in attributes])


def _unquote(text: str) -> str:
    quoted = text[:1] in ("'", '"')
    text = _ESCAPE.sub(r"\1", text[1:-1]) if quoted else _PLAIN_ESCAPE.sub(r"\1", text)
    # Names of other encodings, most often Latin-1, must still be printable.
    return text if text.isprintable() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _arff_header(path: Path, lines: Iterator[tuple[int, str]]) -> _ArffHeader:
    relation, attributes = "", []
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        word, *rest = text.split(None, 1)
        match word.lower():
            case "@relation":
                relation = "".join(rest)
            case "@attribute":
                attributes.append(_attribute(path, number, "".join(rest)))
            case "@data":
                if not attributes:
                    fault(path, number, "found @data before any @attribute")
                return _ArffHeader(relation, attributes)
            case _:
                fault(path, number, f"found {shown(text)}; allowed before @data are @relation and @attribute")
    raise InputError(f"{path}: not ARFF, there is no @data line")


def _attribute(path: Path, line: int, text: str) -> _Attribute:
    match = _NAME.match(text)
    if match is None:
        fault(path, line, f"found the attribute name {shown(text)}; one with quotes or spaces is quoted, \\' inside")
    name, kind = _unquote(match[0]), text[match.end() :].strip()
    if kind.startswith("{"):
        kind = _strip_comment(kind)
        if not kind.endswith("}"):
            fault(path, line, f"attribute {shown(name)}: its list of values is not closed by }}")
        return _Attribute(name, _nominal(path, line, name, kind[1:-1]), line)
    if kind.lower().split(maxsplit=1)[:1] not in [[known] for known in _TYPES]:
        allowed = ", ".join(_TYPES)
        fault(path, line, f"attribute {shown(name)}: found type {shown(kind)}; allowed are {allowed} or {{...}}")
    return _Attribute(name, None, line)


def _strip_comment(text: str) -> str:
    """Cut off a comment, which starts at a % outside quotes."""
    if "%" not in text:
        return text
    masked = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    return text[: masked.index("%")].rstrip() if "%" in masked else text


def _nominal(path: Path, line: int, name: str, text: str) -> list[str]:
    values, position = [], 0
    while position < len(text):
        match = _VALUE.match(text, position)
        if match is None:
            fault(path, line, f"attribute {shown(name)}: a quote in its list of values is not closed")
        values.append(_unquote(match[1].strip()))
        position = match.end()
    return values


def _arff_labels(path: Path, header: _ArffHeader, labels: int | Path | None) -> list[int]:
    """Positions of the label attributes."""
    total = len(header.attributes)
    if labels is None:
        declared = _MEKA.search(header.relation)
        if declared:
            return _ends(path, int(declared[1]), total, f"@relation says -C {declared[1]}")
        stem, _ = split_name(path)
        beside = [path.with_name(f"{name}.xml") for name in dict.fromkeys((stem, _base_name(stem)))]
        labels = next((candidate for candidate in beside if candidate.is_file()), None)
        if labels is None:
            raise InputError(
                f"{path}: does not say which attributes are labels: found no '-C N' in @relation (MEKA) and no "
                f"{' or '.join(candidate.name for candidate in beside)} beside it (Mulan); the option labels can say it"
            )
    if isinstance(labels, int):
        return _ends(path, labels, total, f"labels: found {labels}")
    positions = {attribute.name: i for i, attribute in enumerate(header.attributes)}
    names = _mulan_labels(labels)
    plain = [name if name in positions else _PLAIN_ESCAPE.sub(r"\1", name) for name in names]
    for name, found in zip(names, plain, strict=True):
        if found not in positions:
            raise InputError(f"{labels}: label {shown(name)}: {path} has no such attribute")
    return [positions[name] for name in plain]


def _base_name(stem: str) -> str:
    """``yeast-train`` and ``yeast-test`` share the label list of ``yeast``."""
    return re.sub(r"[-_](train|test)$", "", stem)


def _ends(path: Path, count: int, total: int, found: str) -> list[int]:
    if not 1 <= abs(count) <= total:
        raise InputError(f"{path}: {found}; allowed are 1 to {total}, or -1 to -{total}, of {total} attributes")
    return list(range(count)) if count > 0 else list(range(total + count, total))


def _mulan_labels(path: Path) -> list[str]:
    from xml.etree import ElementTree

    try:
        tree = ElementTree.parse(path)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not XML ({reason(error)})") from error
    names = [element.get("name") for element in tree.iter() if element.tag.rpartition("}")[2] == "label"]
    if not names or None in names:
        raise InputError(f'{path}: not a Mulan label list: allowed are <label name="..."> elements, one for each label')
    if len(set(names)) < len(names):
        raise InputError(f"{path}: a label is listed twice")
    return [str(name) for name in names]


def _arff_rows(path: Path, lines: Iterator[tuple[int, str]], header: _ArffHeader, chosen: list[int]) -> Rows:
    """The label part of the data section; values of other attributes are counted, never read."""
    rows, total = Rows(path), len(header.attributes)
    columns: dict[str, int | None] = dict.fromkeys(map(str, range(total)))
    columns |= {str(attribute): k for k, attribute in enumerate(chosen)}
    # What a sparse row leaves out is 0 or, of a nominal attribute, its first value.
    omitted = [k for k, i in enumerate(chosen) if cell((header.attributes[i].values or ["0"])[0])]

    def value(text: str, column: int, line: int) -> bool:
        text = text.strip()
        found = CELLS[text] if text in CELLS else cell(text)
        if found is None:
            name = header.attributes[chosen[column]].name
            fault(path, line, f"label {shown(name)}: found {shown(text)}; allowed are 0 and 1")
        return found

    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        if "'" in text or '"' in text:
            # Quoted values can hold separators; the only ones of interest are 0 and 1.
            text = _QUOTED.sub(lambda quoted: quoted[0][1:-1] if quoted[0][1:-1] in CELLS else "_", text)
            if "'" in text or '"' in text:
                fault(path, number, "a quote is not closed")
        text = _strip_comment(text)
        if text.startswith("{"):
            if not text.endswith("}"):
                fault(path, number, "a sparse row is not closed by }")
            row: dict[int, bool] = {}
            for pair in text[1:-1].split(",") if text[1:-1].strip() else ():
                parts = pair.split(None, 1)
                if len(parts) < 2 or parts[0] not in columns:
                    fault(
                        path,
                        number,
                        f"found {shown(pair.strip())}; allowed is an attribute 0 to {total - 1} and a value",
                    )
                column = columns[parts[0]]
                if column is not None:
                    if column in row:
                        fault(path, number, f"attribute {parts[0]} occurs twice")
                    row[column] = value(parts[1], column, number)
            rows.append([k for k, there in row.items() if there] + [k for k in omitted if k not in row])
        else:
            cells = text.split(",") if "," in text else text.split()
            if len(cells) != total:
                fault(path, number, f"found {len(cells)} values; allowed are {total}, one for each attribute")
            rows.append([k for k, i in enumerate(chosen) if cells[i] != "0" and value(cells[i], k, number)])
    return rows

"""ncpipe: multi-label neural collapse, reproduced, tested and certified.

The names of this page are the library, each imported when it is first used; docs/theory has what they compute, with
conditions and proofs. Stages and wings import from each other's modules, never from here.
"""

from __future__ import annotations

from importlib import import_module

with open(f"{__file__}i", encoding="utf-8") as _stub:  # pathlib would be most of the time that this import takes
    _lines = _stub.read().splitlines()
_HOMES: dict[str, tuple[str, str]] = {}
for _line in _lines:
    if _line.startswith("from "):
        _module, _names = _line.removeprefix("from ").split(" import ")
        for _name in _names.split(", "):
            _original, _, _public = _name.partition(" as ")
            _HOMES[_public or _original] = _module, _original

__all__ = sorted(_HOMES)  # noqa: PLE0605 - read from the stub


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return globals().setdefault(name, version("ncpipe"))
    if name not in _HOMES:
        raise AttributeError(f"module 'ncpipe' has no attribute {name!r}")
    home, attribute = _HOMES[name]
    value = getattr(import_module(home), attribute)
    return globals().setdefault(name, value)  # `optimum` is there by now: the package, which can be called


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

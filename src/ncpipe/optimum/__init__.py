"""The optimum wing: the certified global optimum of (7), its bounds, thresholds and laws.

The wing can be called: ``ncpipe.optimum(distribution, objective)`` is `ncpipe.optimum.optimum.solve`. A name of the
front door that is also a package cannot be a plain function: importing any module of the package would replace it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncpipe.optimum.optimum import Optimum


class _Wing(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Optimum:
        from ncpipe.optimum.optimum import solve

        return solve(*args, **kwargs)


sys.modules[__name__].__class__ = _Wing

"""The optimum wing: the certified global optimum of (7), its bounds, thresholds and laws.

The wing can be called: ``ncpipe.optimum(distribution, objective)`` is `ncpipe.optimum.optimum.solve`. A name of the
front door that is also a package cannot be a plain function: importing any module of the package would replace it.

Examples
--------
>>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
>>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
>>> solution = ncpipe.optimum(labels, objective)
>>> round(solution.objective, 5), round(solution.lower_bound, 5), solution.certified
(0.21277, 0.21277, True)
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

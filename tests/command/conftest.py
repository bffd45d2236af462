"""The toy distribution, its theory file and runs made by hand."""

from toy_run import case, run_maker, theory_path

__all__ = ["case", "run_maker", "theory_path"]

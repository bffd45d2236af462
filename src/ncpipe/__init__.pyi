# The public names: for type checkers, and for __init__.py, which reads the import statements of this file.
from ncpipe.errors import InputError, NcpipeError, StoreError
from ncpipe.geometry.collapse_metrics import CollapseMetrics, collapse_metrics
from ncpipe.geometry.metrics import UndefinedMetric, angle_metric, condense, nc1, nc2_h, nc2_w, nc3
from ncpipe.geometry.synthesis import fit_synthesis, geometry_bound
from ncpipe.labels.distribution import LabelDistribution, as_distribution
from ncpipe.labels.files import read_labels, write_labels
from ncpipe.labels.rebalance import frequency_weights, rebalance
from ncpipe.labels.spectrum import spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.critical import lambda_critical
from ncpipe.optimum.optimum import Optimum
from ncpipe.optimum.optimum import solve as optimum
from ncpipe.optimum.relu import solve_relu as relu_optimum
from ncpipe.optimum.thresholds import minority_collapse, zero_threshold
from ncpipe.stores.zarr import Store

__all__ = [
    "CollapseMetrics",
    "InputError",
    "LabelDistribution",
    "NcpipeError",
    "Objective",
    "Optimum",
    "Store",
    "StoreError",
    "UndefinedMetric",
    "angle_metric",
    "as_distribution",
    "collapse_metrics",
    "condense",
    "fit_synthesis",
    "frequency_weights",
    "geometry_bound",
    "lambda_critical",
    "minority_collapse",
    "nc1",
    "nc2_h",
    "nc2_w",
    "nc3",
    "optimum",
    "read_labels",
    "rebalance",
    "relu_optimum",
    "spectral_bound",
    "spectrum",
    "write_labels",
    "zero_threshold",
]

__version__: str

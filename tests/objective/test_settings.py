from __future__ import annotations

import pytest

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective

SOUND = {"target": "raw", "lambda_w": 0.1, "lambda_h": 0.1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": "normalized"}, "target: found 'normalized'; did you mean 'normalised'"),
        ({"loss": "BCE"}, "loss: found 'BCE'; did you mean 'bce'"),
        ({"classifier": "ETF"}, "classifier: found 'ETF'; did you mean 'etf'"),
        ({"lambda_w": 0}, "lambda_w: found 0"),
        ({"lambda_h": float("nan")}, "lambda_h: found nan"),
        ({"lambda_b": -1}, "lambda_b: found -1"),
        ({"use_bias": "no"}, "use_bias: found 'no'"),
        ({"loss": "bce", "target": "normalised"}, "target: found 'normalised' with loss bce"),
        ({"loss": "mse", "class_weights": (1.0, 2.0)}, "class_weights: found with loss mse"),
        ({"class_weights": (1.0, 0.0)}, r"class_weights\[1\]: found 0.0"),
        ({"class_weights": (1.0, float("inf"))}, "class_weights: found inf"),
    ],
)
def test_what_is_no_objective_is_refused_before_anything_is_computed(wrong, message):
    with pytest.raises(InputError, match=message):
        Objective(**{**SOUND, **wrong})


def test_class_weights_are_one_for_each_class():
    objective = Objective(**SOUND, class_weights=(1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="class weights: found 3; allowed: one for each of 2 classes"):
        objective.targets(LabelDistribution.from_counts({(0,): 1, (1,): 1}, 2))

"""Reef's generator is measured by what it makes."""

import numpy as np
import pytest
from reef_generator import Gauge, spread, trained

from concord.models.hub import REEF_WEIGHTS


def test_spread_leaves_out_what_classes_differ_in() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 400)
    values = rng.normal(size=(1200, 2)) * [1, 3] + groups[:, None] * 10
    assert spread(values, groups) == pytest.approx([1, 3], rel=0.06)


def test_shipped_weights_are_measured_as_what_they_are() -> None:
    """Species in the order of the DiT's labels, for the teacher as for the detector; and the same seeds, the same."""
    gauge, model = Gauge(real_per_species=20, held_out=8), trained(REEF_WEIGHTS)
    row = gauge.measure(model, guidance=2.0, per_species=2, steps=10, seed=1)
    assert row["n"] == 20 and row["teacher"] > 0.7 and row["mean"] > 0.5
    assert all(0.1 < value < 2 for value in row["spread_of_real"].values())
    assert gauge.measure(model, guidance=2.0, per_species=2, steps=10, seed=1) == row
    error = list(gauge.error(model).values())
    assert error == sorted(error) and error[0] > 0 and error[-1] < 1

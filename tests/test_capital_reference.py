"""The capital rules reproduce published and hand-worked figures to their printed precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from risk import capital

FIGURES = yaml.safe_load((Path(__file__).parent / "reference" / "capital.yaml").read_text())


@pytest.mark.parametrize(
    "figure", FIGURES, ids=lambda figure: f"{figure['call']}-{figure['expected']}"
)
def test_a_published_figure_is_reproduced_to_its_printed_precision(figure):
    found = getattr(capital, figure["call"])(**figure["with"])
    if "field" in figure:
        found = np.asarray(getattr(found, figure["field"])).item()
    assert found == pytest.approx(figure["expected"], rel=0, abs=figure["within"] * 1.0001)
    assert figure["source"]

"""Known networks are exact special cases: the same numbers as an independent implementation."""

import numpy as np
import pytest

import odernn
from odernn import zoo

from .references import REFERENCES

STEPS = 40


def test_every_network_has_a_reference():
    assert REFERENCES.keys() == zoo.CELLS.keys()


@pytest.mark.parametrize("sizes", [(3, 5), (2, 2)], ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_a_network_is_what_its_paper_says(name, sizes, rng):
    cell, reference = REFERENCES[name](*sizes, rng)
    xs = rng.normal(size=(STEPS, sizes[0]))
    past = np.zeros((cell.interpolation.samples - 1, sizes[0]))
    options = {"past": past} if len(past) else {}
    outputs, _ = odernn.Layer(cell, odernn.Scan())(xs, **options)
    expected = reference(xs)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)

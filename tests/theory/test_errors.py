"""The shared checks: what counts as a number, and what is refused."""

import numpy as np
import pytest

from theory.errors import RequestError, check_real, check_whole
from theory.specs import VarianceSpec


@pytest.mark.parametrize("kind", [int, np.int8, np.int64, np.uint16])
def test_numpys_integers_are_whole_numbers(kind):
    whole = check_whole("depth", kind(3), 1, 10)
    assert whole == 3 and type(whole) is int
    assert VarianceSpec(depth=kind(3)).depth == 3


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, 0, 11, np.int64(11)])
def test_what_is_no_whole_number_in_range_is_refused(value):
    with pytest.raises(RequestError, match="depth must be a whole number from 1 to 10, not"):
        check_whole("depth", value, 1, 10)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2)])
def test_numpys_numbers_are_real(value):
    number = check_real("rate", value, 0, 10)
    assert number == 2.0 and type(number) is float


@pytest.mark.parametrize("value", [True, np.nan, np.float32(np.inf), "2", 2j, None])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(RequestError, match="rate must be a finite number"):
        check_real("rate", value, 0, 10)

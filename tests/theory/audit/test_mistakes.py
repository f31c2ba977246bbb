"""Mistakes that shipped are found, fixed versions are free of them, what only looks so is quiet."""

import pytest
import torch
from known_mistakes import CHOICES, FOUND, LOOKS_WRONG, UNSEEN, missed

from theory.audit import audit

pytestmark = pytest.mark.usefixtures("one_thread")

CASES = [case for case in (*FOUND, *UNSEEN) if case.what != "the same without norms"]


def name_of(case):
    return f"{case.where}: {case.what}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_mistake_is_found_where_it_is(case):
    torch.manual_seed(0)
    result = audit(case.broken(), case.inputs())
    assert missed(case, result) == []
    for finding in result.findings:
        assert finding.modules or finding.code == "forget-bias"
        assert any(isinstance(value, (int, float)) for value in finding.evidence.values())


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_its_fixed_version_is_free_of_it(case):
    torch.manual_seed(0)
    result = audit(case.fixed(), case.inputs(), try_fixes=False)
    assert not {finding.code for finding in result.findings} & set(case.codes)


@pytest.mark.parametrize(
    "case", [case for case in (*LOOKS_WRONG, *CHOICES) if "VGG" not in case.where], ids=name_of
)
def test_what_only_looks_wrong_is_quiet(case):
    torch.manual_seed(0)
    result = audit(case.broken(), case.inputs(), try_fixes=False)
    assert {finding.severity for finding in result.findings} <= {"note"}
    assert result.verdict == "healthy"

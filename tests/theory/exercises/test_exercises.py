"""Every solution passes its check, every plausible wrong answer fails it and is told why."""

import math

import pytest
import torch

import theory.audit
from theory.errors import RequestError
from theory.exercises import BUGS, EXERCISES, broken_network, check_exercise
from theory.exercises.solutions import SOLUTIONS

SLIPS = [(name, slip) for name, exercise in EXERCISES.items() for slip in exercise.slips]


def test_every_exercise_has_a_solution():
    assert list(SOLUTIONS) == list(EXERCISES) and len(BUGS) == 12


@pytest.mark.parametrize("name", EXERCISES)
def test_a_solution_passes_its_check(name):
    checked = check_exercise(name, SOLUTIONS[name])
    assert checked.right, checked


@pytest.mark.parametrize("name, slip", SLIPS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_plausible_wrong_answer_fails_and_is_told_why(name, slip):
    checked = check_exercise(name, slip.answer)
    assert not checked.right and checked.says == slip.says


def test_every_exercise_knows_a_wrong_answer():
    assert {name for name, _ in SLIPS} == set(EXERCISES)


@pytest.mark.parametrize("name", [name for name in EXERCISES if not name.startswith("bug-")])
def test_an_answer_that_is_a_little_off_fails(name):
    solution = SOLUTIONS[name]

    def off(*case):
        found = solution(*case)
        return tuple(1.2 * one for one in found) if isinstance(found, tuple) else 1.2 * found

    checked = check_exercise(name, off if callable(solution) else solution + 1)
    assert not checked.right
    assert ("is right" if callable(solution) else "is not it") in checked.says


def test_what_is_no_answer_at_all_is_said():
    assert "a function of 2 arguments" in check_exercise("growth", 3.0).says
    assert "raises ZeroDivisionError" in check_exercise("growth", lambda n, std: 1 / 0).says
    assert not check_exercise("growth", lambda n, std: "much").right
    assert not check_exercise("growth", lambda n, std: math.nan).right
    assert not check_exercise("bug-1", None).right
    assert check_exercise("bug-1", " Default-Law ").right
    with pytest.raises(RequestError, match="did you mean he-std"):
        check_exercise("he-sdt", 1.0)


@pytest.mark.parametrize("number", range(1, 13))
def test_the_audit_finds_the_bug_of_a_broken_network(number):
    network, inputs = broken_network(number)
    found = theory.audit.audit(network, inputs, try_fixes=False)
    said = {one.code for one in found.findings if one.severity != "note"}
    assert BUGS[number - 1].code in said and found.verdict != "healthy"


def test_a_broken_network_is_the_same_each_time_and_leaves_the_random_state():
    before = torch.get_rng_state()
    first, second = (broken_network(1)[1] for _ in range(2))
    assert torch.equal(first, second) and torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, broken_network(2)[1])
    with pytest.raises(RequestError, match="number of a broken network"):
        broken_network(13)

"""Fewer threads while other processes keep cores busy, told from how long the threads of a loop wait."""

import pytest
from cnnlib import _core


@pytest.fixture
def cores():
    return _core.MissingCores()


def test_a_thread_that_waits_for_its_turn_costs_the_team_one_for_a_while(cores):
    assert cores.left(4, 0) == 4
    cores.note(4, 4, begin=0, first=1, last=5)
    assert cores.left(4, 6) == 3
    assert cores.left(2, 6) == 2  # fewer anyway
    assert cores.left(4, 26) == 4  # tried again


@pytest.mark.parametrize(
    ("first", "last"),
    [(1.0, 1.9), (0.1, 1.0), (2.0, 7.0)],
    ids=["shorter than a turn", "just as short", "shorter than the work"],
)
def test_an_uneven_end_is_no_missing_core(cores, first, last):
    cores.note(4, 4, begin=0, first=first, last=last)
    assert cores.left(4, last) == 4


def test_each_further_wait_takes_one_more_but_never_the_last(cores):
    for k, want in enumerate((3, 2, 1, 1)):
        cores.note(4, 4, begin=10 * k, first=10 * k + 1, last=10 * k + 5)
        assert cores.left(4, 10 * k + 6) == want


def test_more_threads_than_cores_first_become_as_many(cores):
    cores.note(8, 2, begin=0, first=1, last=5)
    assert cores.left(8, 6) == 2
    cores.note(8, 2, begin=7, first=8, last=12)
    assert cores.left(8, 13) == 1


def test_they_are_tried_ever_later_until_all_have_worked_for_a_while(cores):
    pauses, now = [], 0
    for _ in range(7):
        cores.note(2, 2, begin=now, first=now + 1, last=now + 5)
        start = now = now + 5
        while cores.left(2, now) < 2:
            now += 1
        pauses.append(now - start)
    assert pauses == [20, 40, 80, 160, 320, 640, 640]
    cores.note(2, 2, begin=now + 30, first=now + 31, last=now + 31.1)
    cores.note(2, 2, begin=now + 40, first=now + 41, last=now + 45)
    assert cores.left(2, now + 45 + 19) == 1
    assert cores.left(2, now + 45 + 20) == 2

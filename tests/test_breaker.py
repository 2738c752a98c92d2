"""The breaker: a deadline for each call, a rest after failures, and one try after the rest."""

import threading

import pytest

from tollgate.breaker import Breaker
from tollgate.errors import ModelError
from tollgate.steps import run


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    breaker = Breaker(clock, max_failures=3, rest_s=2.0)
    yield breaker
    breaker.close()


def fail():
    raise ModelError("bad_score", "the model gave no finite score")


def code_of(breaker, work=lambda: 1, within_s=5.0):
    with pytest.raises(ModelError) as caught:
        run(breaker.call(work, within_s))
    return caught.value.code


def test_a_call_returns_what_the_work_returns_from_another_thread(breaker):
    assert run(breaker.call(threading.get_ident, 5.0)) != threading.get_ident()


def test_a_call_that_is_too_slow_is_given_up_and_the_next_waits_for_nobody(breaker):
    end = threading.Event()
    assert code_of(breaker, end.wait, within_s=0.01) == "model_timeout"
    assert code_of(breaker) == "model_busy"
    end.set()
    while not breaker._given_up.ended:
        pass
    assert run(breaker.call(lambda: "back", 5.0)) == "back"


def test_any_error_of_a_model_means_no_score(breaker):
    assert code_of(breaker, lambda: 1 / 0) == "model_failed"
    assert code_of(breaker, fail) == "bad_score"


def test_failures_in_a_row_open_it_and_after_the_rest_one_call_is_tried(breaker, clock):
    for _ in range(3):
        code_of(breaker, fail)
    assert breaker.is_open
    tried = []
    assert code_of(breaker, lambda: tried.append(1)) == "breaker_open"
    clock.now_s = 2.5
    assert code_of(breaker, fail) == "bad_score"
    assert code_of(breaker, lambda: tried.append(1)) == "breaker_open"
    assert not tried
    clock.now_s = 5.0
    assert run(breaker.call(lambda: 7, 5.0)) == 7
    assert not breaker.is_open


def test_a_success_between_failures_keeps_it_closed(breaker):
    for _ in range(5):
        code_of(breaker, fail)
        code_of(breaker, fail)
        run(breaker.call(lambda: 1, 5.0))
    assert not breaker.is_open

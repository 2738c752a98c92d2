import optuna
import pytest

from tollgate.errors import ModelError
from tollgate.tune import search

DEFAULTS = {"x": 0.5, "kind": "plain"}


class Clock:
    """Seconds that pass only when they are spent."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def suggest(trial):
    return trial.suggest_float("x", -10.0, 10.0), trial.suggest_categorical("kind", ["plain", "odd"])


def hill(parameters):
    return -((parameters[0] - 3.0) ** 2) - (parameters[1] == "odd")


def run(objective=hill, *, budget_s=100.0, max_trials=40, seed=0, on_trial=None, clock=None):
    return search(
        suggest,
        objective,
        DEFAULTS,
        budget_s=budget_s,
        max_trials=max_trials,
        seed=seed,
        on_trial=on_trial,
        clock=clock or Clock(),
    )


def test_a_search_finds_better_parameters_than_the_defaults():
    found = run()

    assert found.value > hill((0.5, "plain")) / 10
    assert found.value == hill(found.parameters) == max(trial.value for trial in found.trials)
    assert found.best is found.trials[found.best.number - 1]
    assert found.parameters == (found.best.choices["x"], found.best.choices["kind"])


def test_the_defaults_come_first_and_stay_where_nothing_beats_them():
    found = run(lambda parameters: float(parameters == (0.5, "plain")))

    assert dict(found.trials[0].choices) == DEFAULTS
    assert found.best.number == 1


def test_of_equal_values_the_first_is_kept():
    assert run(lambda _: 7.0, max_trials=5).parameters == (0.5, "plain")


def test_the_same_seed_draws_the_same_and_another_seed_others():
    first, again, other = (run(seed=seed, max_trials=15).trials for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_no_trial_begins_after_the_budget_is_spent():
    clock, told = Clock(), []

    def objective(parameters):
        clock.now += 4.0
        return hill(parameters)

    found = run(objective, budget_s=10.0, clock=clock, on_trial=told.append)

    assert [trial.left_s for trial in told] == [6.0, 2.0, 0.0]
    assert tuple(told) == found.trials


def test_without_time_only_the_defaults_are_tried():
    assert len(run(budget_s=0.0).trials) == 1


def test_each_trial_is_told_with_the_best_value_so_far():
    told = []
    run(max_trials=12, on_trial=told.append)

    assert [trial.number for trial in told] == list(range(1, 13))
    values = [trial.value for trial in told]
    assert [trial.best for trial in told] == [max(values[: place + 1]) for place in range(12)]


@pytest.mark.parametrize("bad", ["raise", "nan"])
def test_parameters_that_do_not_work_are_passed_over(bad):
    def objective(parameters):
        if parameters[1] == "odd":
            if bad == "nan":
                return float("nan")
            raise ModelError("diverged", "the loss became nan")
        return hill(parameters)

    found = run(objective)
    failed = [trial for trial in found.trials if trial.value is None]

    assert failed
    assert all("nan" in trial.failure and trial.choices["kind"] == "odd" for trial in failed)
    assert found.parameters[1] == "plain"


def test_a_search_in_which_all_fails_says_why():
    def objective(_):
        raise ModelError("diverged", "the loss became nan in epoch 2")

    with pytest.raises(ModelError, match="all failed; the last: the loss became nan in epoch 2") as caught:
        run(objective, max_trials=3)
    assert caught.value.code == "no_trial"


def test_an_error_in_the_code_is_not_taken_for_bad_parameters():
    def objective(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(objective)


def test_nothing_is_written_to_the_terminal_and_optunas_level_is_put_back(capfd):
    before = optuna.logging.get_verbosity()
    run(max_trials=12)

    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before

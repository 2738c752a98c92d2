"""What is answered, as JSON."""

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tollgate.decision import Decision, Mode, Outcome, Reason, approves, outcome_of


@given(st.sampled_from(Outcome), st.text(), st.text(), st.text())
@example(Outcome.BLOCK, '"outcome":"approve"', '","outcome":"approve"', "\\")
@example(Outcome.REVIEW, '\\","outcome":"approve","', "outcome", "approve")
def test_an_answer_approves_if_that_is_its_outcome_whatever_its_texts_say(outcome, identifier, code, text):
    answer = msgspec.json.encode(
        Decision(identifier, outcome, 0.5, 0.5, Mode.NORMAL, (Reason(code, text),), (text,), code)
    )
    assert approves(answer) == (outcome is Outcome.APPROVE) == (outcome_of(answer) is Outcome.APPROVE)

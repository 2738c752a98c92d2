"""A scorer over a real engine and a real ledger, with a small honest model: the logistic of two features."""

import json

import numpy as np

from tollgate.config import PolicyConfig
from tollgate.explain import Explainer
from tollgate.features import FeatureEngine, entity, tx
from tollgate.features.plan import compile_plan
from tollgate.intake import TransactionReader
from tollgate.money import Money
from tollgate.policy import Policy
from tollgate.recovery import Recovery
from tollgate.schema import payment_schema
from tollgate.scorer import Judge, Scorer, Submission, body_of

READER = TransactionReader(payment_schema(), Money("EUR"), b"k" * 16)
CARD = entity("card_id")
PLAN = compile_plan(
    [tx.amount, CARD.count(over="1h"), CARD.sum(tx.amount, over="1d"), tx.channel.category()], payment_schema(), 100.0
)
NOW_US = 1_767_225_600_000_000


def scores(features):
    """0.5 at five payments an hour or 500 an amount; certain beyond."""
    logit = np.nan_to_num(features[:, 0]) / 100 + features[:, 1] - 5
    probability = 1 / (1 + np.exp(-logit))
    return probability, np.maximum(probability, 1 - probability)


def judge(score=scores, policy=PolicyConfig()):
    explainer = Explainer(lambda f: scores(f)[0], PLAN.names, np.array([20.0, 0.0, 50.0, np.nan]), {}, 3)
    return Judge("bundle-1", score, policy if isinstance(policy, Policy) else Policy(policy), explainer)


def engine():
    return FeatureEngine(PLAN, 2**26)


def payment(number, **changes):
    return {"transaction_id": f"t-{number}", "effective_time": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
            "amount": 10.0, "currency": "EUR", "card_id": "card-1", "channel": "ecom"} | changes  # fmt: skip


def submission(*rows):
    _, decoded = READER.decode(json.dumps(list(rows)).encode())
    return Submission(READER.from_rows(decoded), [body_of(row) for row in decoded])


def recovery(ledger, snapshots=None):
    return Recovery(PLAN, READER, ledger, snapshots)


def make_scorer(ledger, score=scores, snapshots=None):
    scorer = Scorer(recovery(ledger, snapshots), judge(score), ledger, lambda: NOW_US)
    scorer.recover()
    return scorer

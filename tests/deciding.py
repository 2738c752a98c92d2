"""A scorer over a real engine and a real ledger, with a small honest model: the logistic of two features."""

import json
import time

import msgspec
import numpy as np

from tollgate.admission import Admission, CardNumbers, Submission
from tollgate.breaker import Breaker
from tollgate.config import PolicyConfig
from tollgate.decision import Decision
from tollgate.explain import Explainer
from tollgate.features import FeatureEngine, entity, tx
from tollgate.features.plan import compile_plan
from tollgate.intake import TransactionReader
from tollgate.judge import Judge
from tollgate.ledger import SharedLedger
from tollgate.money import Money
from tollgate.policy import Policy
from tollgate.recovery import Recovery
from tollgate.schema import payment_schema
from tollgate.scorer import Scorer
from tollgate.shared_recovery import SharedRecovery

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


def judge(score=scores, policy=PolicyConfig(), bundle="bundle-1", plan=PLAN):
    explainer = Explainer(lambda f: scores(f)[0], plan.names, np.array([20.0, 0.0, 50.0, np.nan]), {}, 3)
    canary = np.array([[20.0, 0.0, 50.0, np.nan]])
    return Judge(
        bundle,
        score,
        policy if isinstance(policy, Policy) else Policy(policy),
        explainer,
        Breaker(time.monotonic),
        (canary, float(scores(canary)[0][0])),
    )


def engine():
    return FeatureEngine(PLAN, 2**26)


def payment(number, **changes):
    return {"transaction_id": f"t-{number}", "effective_time": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
            "amount": 10.0, "currency": "EUR", "card_id": "card-1", "channel": "ecom"} | changes  # fmt: skip


def submission(*rows, many=True, arrived_s=None):
    _, decoded = READER.decode(json.dumps(list(rows)).encode())
    return Submission(decoded, many, time.monotonic() if arrived_s is None else arrived_s)


def body_of(row):
    """The row as the ledger keeps it."""
    return READER.body(READER.decode(json.dumps(row).encode())[1][0])


def recovery(ledger, snapshots=None, remote=None, plan=PLAN):
    if remote is not None and isinstance(ledger, SharedLedger):
        return SharedRecovery(plan, READER, ledger, remote)
    return Recovery(plan, READER, ledger, snapshots, remote)


def admission(card_numbers=CardNumbers(("card_id", "transaction_id"))):
    return Admission(READER, lambda: NOW_US, 86_400_000_000, card_numbers)


def new_scorer(ledger, score=scores, snapshots=None, deadline_s=60.0, remote=None, plan=PLAN, **options):
    return Scorer(
        recovery(ledger, snapshots, remote, plan), judge(score, plan=plan), ledger, admission(**options),
        lambda: NOW_US, deadline_s,
    )  # fmt: skip


def make_scorer(ledger, *args, **options):
    scorer = new_scorer(ledger, *args, **options)
    scorer.recover()
    return scorer


def decide(scorer, *submissions):
    """Decide; return for each submission its decisions, or the error that refuses it."""
    results = scorer.decide(submissions).results
    return [
        one if isinstance(one, Exception) else [msgspec.json.decode(a, type=Decision) for a in one] for one in results
    ]

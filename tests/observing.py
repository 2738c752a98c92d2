"""A ledger of decisions by a stored bundle: real features, the small honest model of `deciding`, its thresholds."""

import msgspec
import numpy as np

from deciding import PLAN, READER, engine, scores
from tollgate import __version__
from tollgate.bundle import MODEL, Manifest, Registry, Training
from tollgate.config import PolicyConfig, TrainConfig
from tollgate.decision import Decision, Mode
from tollgate.duration import DAY_US
from tollgate.label import Label
from tollgate.ledger import Counts, Group, Shadow
from tollgate.model.calibration import Calibration
from tollgate.model.profile import profile_features, profile_scores
from tollgate.money import Money
from tollgate.policy import OUTCOMES
from tollgate.schema import payment_schema

FIRST_DAY = 20_500  # days since 1970-01-01
POLICY = PolicyConfig(review=0.4, block=0.9)
PER_DAY = 300
GROUP = 50


def payments(days, seed, *, first_day=FIRST_DAY, per_day=PER_DAY, raised=1.0, lost=0.0):
    """Payments of many cards; `raised` multiplies the amounts, `lost` is the share without a channel."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    times_us = np.sort(rng.integers(first_day * DAY_US, (first_day + days) * DAY_US, n))
    amounts = (rng.lognormal(3.5, 1.2, n) * raised).round(2)
    cards = rng.integers(0, 5000, n)
    channels = rng.choice(["ecom", "pos", "moto"], n)
    gone = rng.random(n) < lost
    return [
        {"transaction_id": f"t-{seed}-{i}", "effective_time": str(np.datetime64(int(times_us[i]), "us")) + "Z",
         "amount": float(amounts[i]), "currency": "EUR", "card_id": f"card-{cards[i]}"}
        | ({} if gone[i] else {"channel": str(channels[i])})
        for i in range(n)
    ]  # fmt: skip


def bodies_of(rows):
    return [READER.body(READER.decode(msgspec.json.encode(row))[1][0]) for row in rows]


def manifest(rows, **changes):
    """Of a bundle that was trained on some payments."""
    batch = READER.from_rows(rows)
    features = engine().observe(batch)
    first, last = int(batch.time_us.min()), int(batch.time_us.max())
    fields = {
        "created_us": last, "tollgate": __version__, "schema_": payment_schema(), "money": Money("EUR"),
        "plan": {"features": PLAN.to_data()}, "train": TrainConfig(), "calibration": Calibration(), "policy": POLICY,
        "metrics": {}, "training": Training(first, last + 1, len(rows), 1, "x"),
        "profiles": profile_features(features, PLAN.names, PLAN.categorical),
        "scores": profile_scores(scores(features)[0]),
    }  # fmt: skip
    return Manifest(**fields | changes)


def store(folder, made):
    registry = Registry(folder)
    bundle_id = registry.store(made, {MODEL: b"not looked at here"})
    registry.promote(bundle_id)
    return bundle_id


def add_labels(ledger, *said):
    """Record labels: id, verdict, when it was known, who says so."""
    ledger.add_labels(
        [
            Label(transaction_id=one, is_fraud=fraud, available_us=int(known_us), source=source)
            for one, fraud, known_us, source in said
        ],
        "me",
        int(max(known_us for _, _, known_us, _ in said)),
    )


def record(ledger, rows, bundle, *, shadow=None, degraded=frozenset(), observed_us=None):
    """Decide and record payments; return their decisions.

    Args:
        shadow: A pair of a challenger's id and what it adds to the scores.
        degraded: Places that are decided without the model.
    """
    batch = READER.from_rows(rows)
    features = engine().observe(batch)
    found = scores(features)[0]
    made = []
    for place, (one, score) in enumerate(zip(rows, found.tolist(), strict=True)):
        without = place in degraded
        level = 1 if without else int(score >= POLICY.review) + int(score >= POLICY.block)
        mode = Mode.DEGRADED if without else Mode.NORMAL
        shown = None if without else score
        made.append(Decision(one["transaction_id"], OUTCOMES[level], shown, shown, mode, (), (), bundle))
    bodies, answers = bodies_of(rows), [msgspec.json.encode(one) for one in made]
    for start in range(0, len(rows), GROUP):
        part = slice(start, min(start + GROUP, len(rows)))
        levels = [OUTCOMES.index(one.outcome) for one in made[part]]
        times = batch.time_us[part]
        counts = [*np.bincount(levels, minlength=3).tolist(), sum(one.score is None for one in made[part])]
        challenger = None
        if shadow is not None:
            challenger = Shadow(shadow[0], np.clip(found[part] + shadow[1], 0, 1))
        ledger.append(
            Group(list(batch.ids[part]), times, bodies[part], answers[part], features[part],
                  int(times.max()) if observed_us is None else observed_us, bundle, Counts(*counts), challenger)
        )  # fmt: skip
    return made

"""What do the reasons of a decision cost, and are they the true ones?

    python -m benchmarks.reasons [--transactions N]

Trains the default model on simulated payments with more than 60 features, exports it, and explains the test payments
that would be held, one at a time, as live traffic comes. Fidelity: by how much the score falls without the named
features, against as many others drawn at random.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Progress, finish, show
from tollgate.bundle import MODEL
from tollgate.config import Config
from tollgate.dataset import Dataset, Split, split
from tollgate.decision import Reason
from tollgate.explain import MAX_VARIANTS, Explainer, usual_values
from tollgate.features import Entity, Expr, FeatureEngine, entity, tx
from tollgate.features.payments import PAYMENT_FEATURES
from tollgate.features.plan import FeaturePlan, compile_plan
from tollgate.features.reason import families
from tollgate.files import TransactionFile
from tollgate.frame import LabelFields
from tollgate.intake import TransactionReader
from tollgate.model.prediction import pool
from tollgate.model.profile import FeatureProfile, profile_features
from tollgate.model.runtime import OnnxRuntime
from tollgate.replay import replay
from tollgate.simulate import Scenario, simulate, write
from tollgate.train.candidate import fit_candidate

TRANSACTIONS, DAYS, SEED = 80_000, 60, 7
TIMED = 2000  # decisions; the held payments are gone through again until there are as many
WARM_UP = 50
SAMPLE_ROWS = 500  # on which the export is compared with the model
SHOWN = 6  # held payments whose reasons are printed

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]


class Fidelity(NamedTuple):
    """Mean fall of the score without the named families, and without as many others drawn at random."""

    named: float
    others: float

    @property
    def ratio(self) -> float:
        """How many times more the named ones matter."""
        return self.named / max(self.others, 1e-9)


def features() -> list[Expr]:
    """Return more than 60 features: those of a payment, and spending and frauds of everyone in it."""
    card, device, ip, merchant = entity("card_id"), entity("device_id"), entity("ip"), entity("merchant_id")
    more: list[Expr] = [
        *card.distinct(tx.merchant_id, over=["1h", "1d"]),
        *card.distinct(tx.mcc, over=["1d", "7d"]),
        card.zscore(tx.amount, over="30d"),
        card.speed_kmh(),
        device.distinct(tx.card_id, over="1d"),
        ip.distinct(tx.card_id, over="1d"),
        *card.max(tx.amount, over=["7d", "30d"]),
        *_known_frauds(card),
        *_known_frauds(device),
        *_known_frauds(merchant),
    ]
    return [*PAYMENT_FEATURES, *more]


def _known_frauds(who: Entity) -> list[Expr]:
    return who.fraud_count(over=["7d", "30d"])


def payments(plan: FeaturePlan, config: Config, transactions: int, folder: Path) -> tuple[Split, dict[float, str]]:
    """Return simulated payments with their features, split by time, and the texts of their categories."""
    path = folder / "payments.parquet"
    write(simulate(Scenario(transactions=transactions, days=DAYS, seed=SEED)), path)
    reader = TransactionReader(config.table, config.money, b"key of the benchmark")
    label = LabelFields(config.label.source, config.label.available_from, config.label.delay_us)
    file = TransactionFile(path, reader, label)
    dataset, _ = replay(file, FeatureEngine(plan), config.evaluate.card)
    return split(dataset, config.split, config.label.delay_us)[-1], file.category_texts()


def fidelity(
    score: Score,
    rows: Floats,
    reasons: list[tuple[Reason, ...]],
    plan: FeaturePlan,
    profiles: tuple[FeatureProfile, ...],
) -> Fidelity:
    """Return how true the reasons of the rows (N, F) are."""
    usual, family = usual_values(profiles, plan), np.array(families(plan.features))
    place = {name: number for number, name in enumerate(plan.names)}
    rng = np.random.default_rng(SEED)
    named, others = rows.copy(), rows.copy()
    for row, found in enumerate(reasons):
        chosen = [int(family[place[reason.code]]) for reason in found]
        drawn = rng.choice(np.setdiff1d(family, chosen), len(chosen), replace=False)
        for variant, gone in ((named, chosen), (others, drawn)):
            variant[row] = np.where(np.isin(family, gone), usual, variant[row])
    before = score(rows)
    return Fidelity(float((before - score(named)).mean()), float((before - score(others)).mean()))


def timed_us(explainer: Explainer, rows: Floats, scores: Floats) -> Floats:
    """Return how long the reasons of one decision take, in microseconds, float64 (TIMED,)."""
    for row in range(WARM_UP):
        explainer.explain(rows[row % len(rows)][None], scores[row % len(rows)][None])
    times = np.empty(TIMED)
    for turn in range(TIMED):
        row = turn % len(rows)
        one, its_score = rows[row : row + 1], scores[row : row + 1]
        start = time.perf_counter()
        explainer.explain(one, its_score)
        times[turn] = (time.perf_counter() - start) * 1e6
    return times


def held(score: Score, part: Dataset, threshold: float) -> tuple[Floats, Floats]:
    """Return the rows that would be held and their scores; the highest ones where none would be."""
    scores = score(part.features)
    rows = np.flatnonzero(scores >= min(threshold, scores.max()))
    return part.features[rows], scores[rows]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--transactions", type=int, default=TRANSACTIONS)
    options = parser.parse_args(argv)
    say, config = Progress(), Config()
    plan = compile_plan(features(), config.table, config.money.scale)
    with tempfile.TemporaryDirectory() as folder:
        say(f"simulating {options.transactions:,} payments and computing {len(plan.names)} features")
        parts, texts = payments(plan, config, options.transactions, Path(folder))
    say(f"training {config.train.model} on {len(parts.train):,} payments")
    model = fit_candidate(parts, config.train)
    runtime = OnnxRuntime(model.files(parts.validation.features[:SAMPLE_ROWS])[MODEL])
    profiles = profile_features(parts.train.features, plan.names, plan.categorical)

    def score(rows: Floats) -> Floats:
        return model.calibration.apply(pool(runtime.logits(rows)))

    currency = config.money.currency
    explainer = Explainer(
        score, plan.names, usual_values(profiles, plan), texts, config.policy.max_reasons, plan, profiles, currency
    )
    rows, scores = held(score, parts.test, config.policy.review)
    say(f"explaining {len(rows)} held payments")
    reasons = explainer.explain(rows, scores)
    times = timed_us(explainer, rows, scores)
    true = fidelity(score, rows, reasons, plan, profiles)
    _show(model.name, plan, scores, reasons, times, true)


def _show(
    model: str, plan: FeaturePlan, scores: Floats, reasons: list[tuple[Reason, ...]], times: Floats, true: Fidelity
) -> None:
    p50, p99 = np.percentile(times, [50, 99])
    show(
        f"Some of {len(scores)} held payments",
        ("score", "reasons"),
        [
            (f"{score:.3f}", "; ".join(f"{reason.text} ({reason.effect:+.3f})" for reason in found))
            for score, found in list(zip(scores, reasons, strict=True))[:SHOWN]
        ],
    )
    show(
        f"Reasons of one decision: {model}, {len(plan.names)} features in {max(families(plan.features)) + 1} families",
        ("measure", "value"),
        [
            ("rows of the model, at the most", str(MAX_VARIANTS)),
            ("time, p50", f"{p50:.0f} us"),
            ("time, p99", f"{p99:.0f} us"),
            ("held payments with a reason", f"{np.mean([bool(found) for found in reasons]):.1%}"),
            ("fall of the score without the named", f"{true.named:.3f}"),
            ("without as many others", f"{true.others:.3f}"),
        ],
    )
    finish({"explain_us_p50": p50, "explain_us_p99": p99, "fidelity_ratio": true.ratio})


if __name__ == "__main__":
    main()

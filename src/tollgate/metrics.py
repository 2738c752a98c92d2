"""How good scores are, in the field's measures and in those that a risk team is paid by.

Everything takes labels bool (N,) and scores float64 (N,), higher meaning more likely fraud. A measure that is
not defined on the rows (no fraud among them) is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from tollgate.duration import DAY_US

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]

FPR_LIMIT = 0.01  # share of good payments disturbed, at which recall is often quoted
LOW_FPR_LIMIT = 0.001  # and at which a card issuer may block without a call
CALIBRATION_BINS = 20
_SMALLEST = 1e-15  # a probability nearer to 0 or 1 is clipped in the log loss, as the field does


def average_precision(is_fraud: Labels, scores: Scores) -> float:
    """Return AP: the mean of the precision at each fraud, from the highest score down."""
    return float(average_precision_score(is_fraud, scores)) if is_fraud.any() else np.nan


def auc_roc(is_fraud: Labels, scores: Scores) -> float:
    """Return the probability that a fraud scores higher than a good payment."""
    return float(roc_auc_score(is_fraud, scores)) if is_fraud.any() and not is_fraud.all() else np.nan


def recall_at_fpr(is_fraud: Labels, scores: Scores, limit: float = FPR_LIMIT) -> float:
    """Return the share of frauds caught by the lowest threshold that flags at most `limit` of the good payments."""
    if not is_fraud.any() or is_fraud.all():
        return np.nan
    fpr, tpr, _ = roc_curve(is_fraud, scores, drop_intermediate=False)
    return float(tpr[fpr <= limit].max())


def alerts(scores: Scores, time_us: NDArray[np.int64], per_day: int) -> NDArray[np.bool_]:
    """Return which payments the analysts see, bool (N,): the `per_day` highest scores of each day (UTC).

    Equal scores go by arrival order.
    """
    days = time_us // DAY_US
    order = np.lexsort((-scores, days))
    sorted_days = days[order]
    rank = np.arange(order.size) - np.searchsorted(sorted_days, sorted_days)
    seen = np.zeros(scores.shape, dtype=np.bool_)
    seen[order[rank < per_day]] = True
    return seen


def recall(is_fraud: Labels, flagged: NDArray[np.bool_]) -> float:
    """Return the share of the frauds that is flagged."""
    return _ratio(int(np.count_nonzero(is_fraud & flagged)), int(np.count_nonzero(is_fraud)))


def precision(is_fraud: Labels, flagged: NDArray[np.bool_]) -> float:
    """Return the share of the flagged that is fraud."""
    return _ratio(int(np.count_nonzero(is_fraud & flagged)), int(np.count_nonzero(flagged)))


def value_detection_rate(is_fraud: Labels, flagged: NDArray[np.bool_], amount: NDArray[np.float64]) -> float:
    """Return the share of the defrauded money that is flagged."""
    return _ratio(float(amount[is_fraud & flagged].sum()), float(amount[is_fraud].sum()))


def money_saved(is_fraud: Labels, flagged: NDArray[np.bool_], amount: NDArray[np.float64], review_cost: float) -> float:
    """Return what looking at the flagged payments is worth: the money of the frauds among them, less the reviews.

    It may be negative, where the reviews cost more than they save. It takes a reviewed fraud as stopped.

    Args:
        is_fraud: bool (N,).
        flagged: bool (N,).
        amount: float64 (N,), in major units of the base currency.
        review_cost: Of one flagged payment, in the same units.
    """
    return float(amount[is_fraud & flagged].sum()) - review_cost * int(np.count_nonzero(flagged))


def card_precision(
    is_fraud: Labels, scores: Scores, card: NDArray[np.uint64], time_us: NDArray[np.int64], k: int
) -> float:
    """Return card precision@k as the Fraud Detection Handbook, chapter 4, defines it.

    Each day (UTC) the `k` cards with the highest maximum score are looked at; the day's precision is the share
    of `k` that is truly compromised that day; cards caught are left out on later days; the mean over days.

    Args:
        is_fraud: bool (N,).
        scores: float64 (N,).
        card: uint64 (N,); rows of card 0 (missing) are left out.
        time_us: Effective times, int64 (N,).
        k: How many cards the team can look at in a day.
    """
    days = time_us // DAY_US
    caught = np.empty(0, dtype=np.uint64)
    precisions = []
    for day in np.unique(days):
        rows = np.flatnonzero((days == day) & (card != 0))
        rows = rows[~np.isin(card[rows], caught)]
        cards, place = np.unique(card[rows], return_inverse=True)
        highest = np.full(cards.shape, -np.inf)
        np.maximum.at(highest, place, scores[rows])
        compromised = np.zeros(cards.shape, dtype=np.bool_)
        np.logical_or.at(compromised, place, is_fraud[rows])
        top = np.argsort(-highest, kind="stable")[:k]
        hits = cards[top][compromised[top]]
        precisions.append(hits.size / k)
        caught = np.concatenate((caught, hits))
    return float(np.mean(precisions)) if precisions else np.nan


def brier(is_fraud: Labels, probabilities: Scores) -> float:
    """Return the mean squared distance of the probability from what happened."""
    return float(np.mean((probabilities - is_fraud) ** 2)) if is_fraud.size else np.nan


def log_loss(is_fraud: Labels, probabilities: Scores) -> float:
    """Return the mean negative log likelihood, in nats."""
    if not is_fraud.size:
        return np.nan
    clipped = np.clip(probabilities, _SMALLEST, 1 - _SMALLEST)
    return float(-np.mean(np.where(is_fraud, np.log(clipped), np.log1p(-clipped))))


def reliability(
    is_fraud: Labels, probabilities: Scores, edges: Scores
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return mean probability, frauds and rows of each bin that has rows, (K,) each.

    Args:
        is_fraud: bool (N,).
        probabilities: float64 (N,).
        edges: Inner edges of the bins, rising; a probability at an edge is below it.
    """
    _, place, rows = np.unique(np.searchsorted(edges, probabilities), return_inverse=True, return_counts=True)
    predicted = np.bincount(place, weights=probabilities, minlength=rows.size) / np.maximum(rows, 1)
    return predicted, np.bincount(place[is_fraud], minlength=rows.size), rows


def expected_calibration_error(is_fraud: Labels, probabilities: Scores, bins: int = CALIBRATION_BINS) -> float:
    """Return ECE: the mean distance of predicted from observed fraud share, over bins of equally many rows.

    Bins of equal width would put nearly all payments into the first. Equal probabilities share a bin.
    """
    if not is_fraud.size:
        return np.nan
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1]))
    predicted, frauds, rows = reliability(is_fraud, probabilities, edges)
    return float(np.average(np.abs(predicted - frauds / rows), weights=rows))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else np.nan

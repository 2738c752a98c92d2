"""Whether labels can be believed, before anything is learned from them.

A poisoned or broken feed looks like labels. Two things give it away without knowing the truth: far more of what is
reported is fraud than before, or a source calls fraud what the model that decides finds harmless and the other way
round. A wave of new fraud moves both as well, but it does not turn the order of the scores upside down; the limits
leave room for it, and what is over them is for a person to look at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tollgate import metrics
from tollgate.config import FeedConfig
from tollgate.gate import Check

_CHANCE = 0.5  # the AUC of labels that have nothing to do with the scores
_NORMAL_95 = 1.645  # one-sided
_HALF = 0.5  # added to each count, so that none is zero (Haldane, 1956)


class Feed(NamedTuple):
    """N labels that were given, and what the champion thought of their transactions.

    Attributes:
        source: Who said so, object (N,) of texts.
        is_fraud: What they said, bool (N,).
        time_us: Effective times of the transactions, int64 (N,). Frauds are reported sooner than others are taken for
            good, so the times of the labels would not compare like with like.
        scores: Of the transactions when they were decided, float64 (N,); NaN where there is none.
    """

    source: NDArray[np.object_]
    is_fraud: NDArray[np.bool_]
    time_us: NDArray[np.int64]
    scores: NDArray[np.float64]


def examine(feed: Feed, background: NDArray[np.float64], since_us: int, config: FeedConfig) -> tuple[Check, ...]:
    """Return the checks of the labels of transactions since some time.

    Args:
        feed: All labels of transactions that are old enough for it to be known what became of them.
        background: Scores of M transactions of that time as they came, labelled or not, float64 (M,).
        since_us: The labels of earlier transactions were examined then; they are what the new ones are compared with.
        config: What is allowed.
    """
    new = feed.time_us >= since_us
    checks = []
    for source in sorted(set(feed.source.tolist())):
        own = feed.source == source
        checks += _share(source, feed.is_fraud[own & ~new], feed.is_fraud[own & new], config)
        checks += _order(source, feed, own & new, background, config)
    return tuple(checks)


def _share(source: str, before: NDArray[np.bool_], now: NDArray[np.bool_], config: FeedConfig) -> list[Check]:
    """Return the check of the share of frauds among a source's labels; none where it gave too few to tell.

    Odds are compared, so that a source that reports little else than fraud is judged like one that reports little, and
    what could be chance is left to it (the interval of a log odds ratio; Woolf, *Annals of Human Genetics* 19, 1955).
    """
    if min(before.size, now.size) < config.min_labels:
        return []
    counts = (
        np.array([np.bincount(one, minlength=2) for one in (now, before)]) + _HALF
    )  # (2, 2): new or not, fraud or not
    change = float(np.exp(np.log(counts[0, 1] / counts[0, 0]) - np.log(counts[1, 1] / counts[1, 0])))
    sure = abs(np.log(change)) - _NORMAL_95 * np.sqrt((1 / counts).sum())
    return [
        Check(
            name=f"fraud_share_{source}", passed=bool(sure <= np.log(config.max_change)), found=change,
            limit=config.max_change,
            why=f"{now.mean():.1%} of the {now.size} new labels of source {source} are fraud, {before.mean():.1%} "
            f"before; the odds may change by a factor of {config.max_change:g}, beyond chance",
        )
    ]  # fmt: skip


def _order(
    source: str, feed: Feed, chosen: NDArray[np.bool_], background: NDArray[np.float64], config: FeedConfig
) -> list[Check]:
    """Return the checks that what is called fraud has the higher scores; none where there are too few to tell.

    The frauds of a source are compared with its own good payments, where it names enough of them, and else with all
    payments: most sources report frauds only.
    """
    scored = chosen & ~np.isnan(feed.scores)
    frauds, goods = feed.scores[scored & feed.is_fraud], feed.scores[scored & ~feed.is_fraud]
    if goods.size < config.min_labels:
        goods = background[~np.isnan(background)]
    if frauds.size < config.min_labels or goods.size < config.min_labels:
        return []
    auc = metrics.auc_roc(np.repeat((True, False), (frauds.size, goods.size)), np.concatenate((frauds, goods)))
    highest = auc + _NORMAL_95 * _auc_error(auc, frauds.size, goods.size)
    return [
        Check(
            name=f"order_{source}", passed=highest >= _CHANCE, found=auc, limit=_CHANCE,
            why=f"a fraud by source {source} has a higher score than a good payment in {auc:.1%} of pairs "
            f"({frauds.size} frauds); under one half, its labels are the wrong way round",
        )
    ]  # fmt: skip


def _auc_error(auc: float, frauds: int, goods: int) -> float:
    """Return the standard error of an AUC (Hanley and McNeil, *Radiology* 143, 1982)."""
    of_two_goods, of_two_frauds = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (frauds - 1) * (of_two_goods - auc**2) + (goods - 1) * (of_two_frauds - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (frauds * goods)))

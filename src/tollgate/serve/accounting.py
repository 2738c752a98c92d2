"""From what was decided to the metrics of it."""

from __future__ import annotations

import numpy as np

from tollgate.decision import Mode, Outcome
from tollgate.judge import Judgement
from tollgate.scorer import Decided
from tollgate.serve.metrics import Metrics
from tollgate.trial import Tried


def account(metrics: Metrics, decided: Decided) -> None:
    """Count one batch; what was refused or known before is not in it."""
    judgement = decided.judgement
    if judgement is None:
        return
    if decided.tried is not None:
        _account_arms(metrics, judgement, decided.tried, decided.champion)
    outcomes = judgement.outcomes
    if judgement.degraded:
        unscored = np.isnan(judgement.scores)
        metrics.decided(np.bincount(outcomes[unscored], minlength=len(Outcome)).tolist(), Mode.DEGRADED)
        for code, count in judgement.degraded.items():
            metrics.degraded(code, count)
        outcomes = outcomes[~unscored]
    metrics.batch(decided.stages_s, np.bincount(outcomes, minlength=len(Outcome)).tolist(), judgement.scores)
    for (rule, mode), count in judgement.rule_hits.items():
        metrics.rule_hits(rule, mode, count)
    for (kind, column), count in judgement.list_hits.items():
        metrics.list_hits(kind, column, count)


def _account_arms(metrics: Metrics, judgement: Judgement, tried: Tried, champion: str) -> None:
    times_s = (judgement.model_s - tried.model_s, tried.model_s)
    for place, (bundle, rows) in enumerate(((champion, ~tried.rows), (tried.bundle, tried.rows))):
        if rows.any():
            outcomes = np.bincount(judgement.outcomes[rows], minlength=len(Outcome)).tolist()
            metrics.arm(place, bundle, outcomes, judgement.scores[rows], times_s[place])
    for code, count in tried.failed.items():
        metrics.canary_failed(code, count)

"""From what was decided to the metrics of it."""

from __future__ import annotations

import numpy as np

from tollgate.decision import Mode, Outcome
from tollgate.scorer import Decided
from tollgate.serve.metrics import Metrics


def account(metrics: Metrics, decided: Decided) -> None:
    """Count one batch; what was refused or known before is not in it."""
    judgement = decided.judgement
    if judgement is None:
        return
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

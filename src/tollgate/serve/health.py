"""`/health`, `/health/live` and `/health/ready`: the same on both ports."""

from __future__ import annotations

from collections.abc import Callable

from tollgate import __version__
from tollgate.ledger import Ledger
from tollgate.scorer import Scorer
from tollgate.serve.canary import Canary
from tollgate.serve.message import Answer, Request, answer_json, refuse
from tollgate.serve.metrics import Readings

PATHS = ("/health", "/health/live", "/health/ready")


class Health:
    """Tells whether a server decides, and what it holds."""

    def __init__(
        self,
        scorer: Scorer,
        ledger: Ledger,
        canary: Canary,
        waiting: Callable[[], int],
        clock_us: Callable[[], int],
    ) -> None:
        """Say whose health it is.

        Args:
            scorer: Decides.
            ledger: Its ledger.
            canary: Proves that it scores.
            waiting: Transactions admitted and not answered yet.
            clock_us: Microseconds since 1970-01-01 UTC.
        """
        self._scorer = scorer
        self._ledger = ledger
        self._canary = canary
        self._waiting = waiting
        self._clock_us = clock_us
        self._started_us = clock_us()

    @property
    def status(self) -> str:
        """`ready`; `recovering` while the state is rebuilt; `impaired` while the canary is not scored as it should."""
        if not self._scorer.ready:
            return "recovering"
        return "ready" if self._canary.alive else "impaired"

    def readings(self) -> Readings:
        """Return the state of the server at this moment, for its metrics."""
        scorer = self._scorer
        engine = scorer.engine if scorer.ready else None
        return Readings(
            ready=self.status == "ready",
            breaker_open=scorer.judge.breaker.is_open,
            champion=scorer.bundle,
            waiting=self._waiting(),
            late_events=0 if engine is None else engine.late,
            entities=0 if engine is None else engine.entities,
            state_bytes=0 if engine is None else engine.state_bytes + engine.index_bytes,
            ledger_transactions=self._ledger.transactions,
            ledger_index_bytes=self._ledger.index_bytes,
            canary_age_s=self._canary.age_s,
        )

    def answer(self, path: str) -> Answer:
        """Return the answer to GET on one of `PATHS`."""
        status = self.status
        if path == "/health/live":
            return answer_json({"status": "live"})
        if path == "/health/ready":
            return answer_json({"status": status}, 200 if status == "ready" else 503)
        return answer_json(self._report(status))

    async def respond(self, request: Request) -> Answer:
        """Answer a request to one of `PATHS`, as `message.Handler`."""
        if request.path not in PATHS:
            return refuse(404, "not_found", f"expected one of {', '.join(PATHS)}, but got {request.path}")
        return self.answer(request.path)

    def _report(self, status: str) -> dict[str, object]:
        scorer, now = self._scorer, self.readings()
        state: dict[str, int] = {}
        if scorer.ready:
            state = {
                "transactions": scorer.engine.observed,
                "entities": now.entities,
                "late_events": now.late_events,
                "state_bytes": now.state_bytes,
            }
        return {
            "status": status,
            "version": __version__,
            "bundle": now.champion,
            "shadow": None if scorer.shadow is None else scorer.shadow.bundle,
            "canary": None if scorer.trial is None else scorer.trial.judge.bundle,
            "uptime_s": (self._clock_us() - self._started_us) // 1_000_000,
            "ledger_transactions": now.ledger_transactions,
            "ledger_index_bytes": now.ledger_index_bytes,
            "decisions": {outcome.value: count for outcome, count in scorer.counts.items()},
            "degraded": scorer.degraded,
            "breaker_open": now.breaker_open,
            "waiting_transactions": now.waiting,
            "canary_age_s": now.canary_age_s,
            "features": state,
        }

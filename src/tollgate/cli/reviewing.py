"""Puts the analysts' pages together, for a server that decides."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from tollgate.bundle import Registry
from tollgate.cli.deciding import Decider
from tollgate.cli.wiring import now_us, plan_of
from tollgate.config import Config
from tollgate.errors import TollgateError
from tollgate.intake import TransactionReader
from tollgate.ledger.cases import Cases
from tollgate.review.app import Review
from tollgate.review.follower import Follower
from tollgate.review.measures import Measures
from tollgate.review.pages import Pages
from tollgate.review.queue import Queue
from tollgate.review.sessions import Sessions
from tollgate.serve.service import Service

_BUNDLES_KEPT = 8  # whose names of features are remembered


@contextmanager
def reviewing(settings: Config, one: Decider, service: Service) -> Iterator[tuple[Follower, Review]]:
    """Yield what feeds the queue of cases, and what answers under /review."""
    manifest = one.bundle.manifest
    queue = Queue()
    measures = Measures(queue, now_us)
    service.metrics.registry.register(measures)
    sessions = Sessions(lambda: one.succession.keys, secrets.token_bytes)
    # Readers of its own: the scorer's is used in another thread. Nothing is hashed here: any key does.
    readers = [TransactionReader(manifest.schema_, manifest.money, secrets.token_bytes(32)) for _ in range(2)]
    with Cases(settings.ledger.url) as cases:
        yield (
            Follower(cases, queue, readers[0], now_us),
            Review(
                cases, queue, sessions, one.controls, readers[1], Pages(manifest.money, sessions.who), measures,
                _names_in(one.registry), service.desk.take, now_us,
            ),
        )  # fmt: skip


def _names_in(registry: Registry) -> Callable[[str], Sequence[str]]:
    """Return what gives the features of a bundle, by its content id."""

    @lru_cache(_BUNDLES_KEPT)
    def names(bundle: str) -> Sequence[str]:
        try:
            return plan_of(registry.load(bundle)).names
        except TollgateError:
            return ()  # it was deleted: the page shows the reasons alone

    return names

"""Engines whose state is on Valkey or Redis; needs the extra `redis`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import blake2b

import msgspec

from tollgate.config import Config
from tollgate.features import FeaturePlan
from tollgate.features.shared.engine import SharedEngine
from tollgate.features.shared.servers import Address

PASSWORD_VARIABLE = "TOLLGATE_REDIS_PASSWORD"  # noqa: S105  # the name of one
_SPACE_BYTES = 4


def shared_engines(config: Config, key: bytes) -> Callable[[FeaturePlan], SharedEngine]:
    """Return what makes an engine for a plan; states under another hash key or other rates are kept apart."""
    settings = config.state.redis
    address = Address(settings.urls, settings.cluster, os.environ.get(PASSWORD_VARIABLE), settings.timeout_s)
    space = blake2b(msgspec.json.encode(config.money), digest_size=_SPACE_BYTES, key=key).hexdigest()

    def make(plan: FeaturePlan) -> SharedEngine:
        return SharedEngine(
            plan, address, space, settings.writer, time.monotonic, repeat_us=settings.repeat_us,
            max_behind=settings.max_behind,
        )  # fmt: skip

    return make

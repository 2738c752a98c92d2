"""Bodies that are no transactions: none may end the process or be answered with an error of its own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from benchmarks.faults import interface
from benchmarks.faults.client import BrokenError, Client
from benchmarks.faults.fuzz import DEEP, malformed
from benchmarks.faults.ground import SEED, Ground
from benchmarks.faults.row import Row, Sizes
from benchmarks.faults.server import Server

_DEEP = f"{DEEP:,} deep"
_VALID = 200  # bodies that the malformed are made of
_SAY_EVERY = 1_000


class _Count:
    """What was answered."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client = server.client()
        self.statuses: Counter[int] = Counter()
        self.broken = self.crashes = 0

    def send(self, body: bytes) -> None:
        """Send a body, and count."""
        try:
            self.count(self._client.predict(body).status)
        except BrokenError:
            self.broken += 1
            if not self._server.alive:
                self.crashes += 1
                self._server.start()

    def count(self, status: int) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.crashes += status >= 500 and status != 503

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def bad_inputs(ground: Ground, sizes: Sizes) -> Row:
    """Send malformed bodies: our own, and those that schemathesis makes of the OpenAPI document."""
    folder = ground.folder("malformed")
    with Server(folder) as server:
        pid, count = server.pid, _Count(server)
        valid = [ground.traffic.body(place) for place in range(_VALID)]
        for place, body in enumerate(malformed(valid, sizes.bodies, SEED)):
            if place % _SAY_EVERY == 0:
                ground.say(f"malformed bodies: {place:,} of {sizes.bodies:,}")
            count.send(body)
        if sizes.generated:
            ground.say(f"{sizes.generated:,} malformed bodies of schemathesis")
            internal = server.internal()
            document = interface.document(internal)
            internal.close()
            _generated(document, server, count, sizes.generated)
        same = server.alive and server.pid == pid
        client: Client = server.client()
        normal = client.predict(ground.traffic.body(_VALID)).status == 200
        client.close()
        count.close()
    sent = sum(count.statuses.values()) + count.broken
    strange = [status for status in count.statuses if status not in (200, 503) and not 400 <= status < 500]
    return Row(
        "malformed bodies",
        f"{sizes.bodies:,} of our own (cut, flipped, {_DEEP}, huge numbers, no UTF-8, megabytes, wrong types), "
        f"{sizes.generated:,} by schemathesis from the OpenAPI document",
        "200 where it is valid by chance, 4xx or 503; the same process afterwards",
        f"{sent:,} sent: {', '.join(f'{n:,} x {status}' for status, n in sorted(count.statuses.items()))}; "
        f"{count.broken} connections broken; {'the same process' if same else 'ANOTHER PROCESS'}",
        held=not count.crashes and not count.broken and not strange and same and normal,
        figures={"bad_inputs": sent, "crashes": count.crashes},
    )


def _generated(document: dict[str, Any], server: Server, count: _Count, number: int) -> None:
    schema = schemathesis.openapi.from_dict(document)
    operation = schema["/predict"]["POST"]
    left = [number]

    @settings(
        max_examples=2 * number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def send(case: Any) -> None:
        if left[0] <= 0:
            return
        left[0] -= 1
        response = case.call(base_url=f"http://127.0.0.1:{server.port}")
        count.count(response.status_code)

    send()

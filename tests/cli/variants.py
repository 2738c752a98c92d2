"""Other bundles than the champion that a training left."""

import msgspec

from tollgate.bundle import MODEL, Registry
from tollgate.duration import DAY_US


def variant(workspace, **changes):
    """Store a bundle that is the champion but for some fields of its manifest; return its id."""
    registry = Registry(workspace / "bundles")
    champion = registry.load()
    return registry.store(msgspec.structs.replace(champion.manifest, **changes), {MODEL: champion.read(MODEL)})


def other_features(workspace):
    """Return a plan like the champion's with one shorter window, which needs a state of its own."""
    plan = msgspec.json.encode(Registry(workspace / "bundles").load().manifest.plan)
    days_90, days_89 = (b"%d}" % (days * DAY_US) for days in (90, 89))
    assert days_90 in plan
    return msgspec.json.decode(plan.replace(days_90, days_89, 1))

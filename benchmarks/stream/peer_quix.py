"""Quix Streams with LightGBM: each record scored on numbers of its own, at least once, offsets as the library commits.

It keeps no history and no ledger. It runs in an environment of its own, by its path. Arguments: BOOTSTRAP IN OUT MODEL.
"""

import sys

import lightgbm
import numpy as np
from quixstreams import Application

FEATURES = 40
_NUMBERS = ("amount", "location_lat", "location_lon")
_THRESHOLD = 0.5


def main() -> None:
    bootstrap, topic_in, topic_out, model = sys.argv[1:]
    booster = lightgbm.Booster(model_file=model)

    def decide(payment: dict) -> dict:
        features = np.zeros((1, FEATURES))
        features[0, : len(_NUMBERS)] = [payment.get(name) or 0.0 for name in _NUMBERS]
        score = float(booster.predict(features, num_threads=1)[0])
        outcome = "block" if score > _THRESHOLD else "approve"
        return {"transaction_id": payment["transaction_id"], "outcome": outcome, "score": score}

    app = Application(
        bootstrap, consumer_group=topic_in, auto_offset_reset="earliest", auto_create_topics=False, loglevel="WARNING",
        producer_extra_config={"linger.ms": 1},
    )  # fmt: skip
    stream = app.dataframe(app.topic(topic_in, value_deserializer="json")).apply(decide)
    stream.to_topic(app.topic(topic_out, value_serializer="json"), key=lambda decision: decision["transaction_id"])
    app.run()


if __name__ == "__main__":
    main()

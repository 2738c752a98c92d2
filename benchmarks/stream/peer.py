"""The plain loop: a consumer, LightGBM on numbers of the record alone, a producer, offsets committed as they come.

It keeps no history, no ledger and no transaction: a crash loses or doubles records. Arguments: BOOTSTRAP IN OUT MODEL.
"""

from __future__ import annotations

import sys

import lightgbm
import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer

from benchmarks.serving.peer_models import FEATURES

BATCH = 512
POLL_S = 0.1
_NUMBERS = ("amount", "location_lat", "location_lon")
_THRESHOLD = 0.5


def main() -> None:
    bootstrap, topic_in, topic_out, model = sys.argv[1:]
    booster = lightgbm.Booster(model_file=model)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic_in, "auto.offset.reset": "earliest"})
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
    consumer.subscribe([topic_in])
    encode, decode = msgspec.json.encode, msgspec.json.decode
    while True:
        first = consumer.poll(POLL_S)
        if first is None:
            continue
        messages = [first, *consumer.consume(BATCH - 1, 0)]
        rows = [decode(one.value()) for one in messages if one.error() is None]
        features = np.zeros((len(rows), FEATURES))
        for place, row in enumerate(rows):
            features[place, : len(_NUMBERS)] = [row.get(name) or 0.0 for name in _NUMBERS]
        scores = booster.predict(features, num_threads=1)
        for row, score in zip(rows, scores, strict=True):
            outcome = "block" if score > _THRESHOLD else "approve"
            answer = {"transaction_id": row["transaction_id"], "outcome": outcome, "score": float(score)}
            while True:
                try:
                    producer.produce(topic_out, encode(answer), row["transaction_id"])
                    break
                except BufferError:
                    producer.poll(POLL_S)
        producer.poll(0)


if __name__ == "__main__":
    main()

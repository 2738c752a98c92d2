"""The Kafka worker: transactions from a topic, each decided once, decisions to another topic."""

"""Tollgate inside Apache Flink: two jobs, `enrich` and `rescore`."""

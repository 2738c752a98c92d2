"""Benchmarks: one module a question, each run side by side with what one would pick instead."""

"""Tollgate inside Apache Flink: two jobs, `enrich` and `rescore`."""

import sys

# A worker of PyFlink replaces `print`, and Numba refuses to be imported where `print` is not where it says it is from.
# Elsewhere this changes nothing. It is done here since the worker imports this package before anything of Tollgate.
setattr(sys.modules[print.__module__], print.__name__, print)

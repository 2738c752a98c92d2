"""Several servers on one ledger and one state, killed under load: `python -m benchmarks.replicas [--rounds 100]`.

The scenario `replicas` of `benchmarks.faults` alone. Ends with one line of JSON: `replicas`, `per_s`, `kills`,
`acknowledged`, `lost`, `doubled`, `state_differs`; the exit code is 1 if anything did not hold.
"""

from __future__ import annotations

import sys

from benchmarks.faults.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["--only", "replicas"]
    main()

"""PostgreSQL killed under load: `python -m benchmarks.postgres_faults [--rounds 30]`.

The scenario `postgres` of `benchmarks.faults` alone. Ends with one line of JSON: `kills`, `acknowledged`, `lost`,
`doubled`; the exit code is 1 if anything did not hold.
"""

from __future__ import annotations

import sys

from benchmarks.faults.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["--only", "postgres"]
    main()

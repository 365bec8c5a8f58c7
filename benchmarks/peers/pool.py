"""multiprocessing.Pool, which has no broker: counts books, and says when the first was handed over.

python -m benchmarks.peers.pool PROCESSES < JOB, where JOB is the `calls` of benchmarks.peers.produce.
"""

import json
import multiprocessing
import sys
import time
from typing import Any

from benchmarks import work


def _meet(_: int) -> None:
    time.sleep(0.02)


def _run(call: tuple[str, dict[str, Any]]) -> None:
    task, kwargs = call
    work.FUNCTIONS[task](**kwargs)


def main() -> None:
    """Warm the pool, then run the calls."""
    calls = json.load(sys.stdin)["calls"]
    with multiprocessing.Pool(int(sys.argv[1])) as pool:
        pool.map(_meet, range(20), chunksize=1)
        began = time.time()
        for _ in pool.imap_unordered(_run, calls):
            pass
        print(json.dumps({"began": began, "seconds": time.time() - began, "count": len(calls)}))


if __name__ == "__main__":
    main()

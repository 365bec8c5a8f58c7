"""How long it takes to look at many dead letters and to move them, and what it costs.

`python -m benchmarks.dead`, or with `--messages 10000`. They are dead for 200 different reasons, each with a traceback.
Memory is that of the process of `leveret`, at its peak, and of the broker's node before, and while one holds them all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pika

from benchmarks.brokers import RabbitMQ
from benchmarks.environment import CHECKOUT
from leveret import Route, Settings, WorkQueue, declare
from leveret.topology import settings
from leveret.topology.access.management import Management
from leveret.topology.link.default_broker import resolve
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import FAILURE_HEADERS

_QUEUE = WorkQueue("measured")
_REASONS = 200
_AT_ONCE = 5_000
_LOOK_SECONDS = 0.2
_BEGIN = "Traceback (most recent call last):\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Bury them, look in each way, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dead", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, metavar="N", help="how many are dead")
    options = parser.parse_args(arguments)
    configured = resolve(settings.load())
    with RabbitMQ(configured).vhost() as url, tempfile.TemporaryDirectory() as folder:
        used = Settings(amqp_url=url, management_url=configured.management_url)
        declare(used, [_QUEUE])
        asyncio.run(_bury(used, options.messages))
        name = _QUEUE.name
        for verb in (
            ("top", name, "--json"),
            ("list", name, "--json", "--limit", "50"),
            ("list", name, "--text", "reason 7 ", "--json"),
            ("show", "id-7", name, "--json"),
            ("export", f"{folder}/dead.jsonl", name),
            ("redrive", name, "--text", "reason 7 ", "-q"),
            ("discard", name, "--yes", "--to", f"{folder}/gone.jsonl", "-q"),
            ("import", f"{folder}/gone.jsonl", "-q"),
            ("redrive", name, "-q"),
        ):
            _measure(used, verb)
    return 0


async def _bury(used: Settings, messages: int) -> None:
    outbox = Outbox(used, "leveret benchmark")
    loop = asyncio.get_running_loop()
    for first in range(0, messages, _AT_ONCE):
        outcomes = []
        for number in range(first, min(messages, first + _AT_ONCE)):
            outcomes.append(loop.create_future())
            outbox.send(_dead(number), outcomes[-1].set_result)
        for error in await asyncio.gather(*outcomes):
            if error:
                raise error
    await outbox.close()


def _dead(number: int) -> Outgoing:
    reason = number % _REASONS
    kind = f"Error{reason}"
    frames = "".join(f'  File "/app/part_{one}.py", line {one}, in step_{one}\n    step()\n' for one in range(20))
    failure = {
        "type": kind,
        "message": f"reason {reason} of {number}",
        "traceback": f'{_BEGIN}{frames}  File "/app/a.py", line {reason}, in work\n{kind}\n',
        "fingerprint": f"{kind}@a.py:work",
        "task": "measured.work",
        "queue": _QUEUE.name,
        "attempts": 5,
        "worker": "host:1",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    headers: dict[str, Any] = {FAILURE_HEADERS + name: value for name, value in failure.items()}
    body = json.dumps({"version": 1, "task": "measured.work", "args": [], "kwargs": {"number": number}}).encode()
    properties = pika.BasicProperties(message_id=f"id-{number}", headers=headers, delivery_mode=2)
    return Outgoing(Route.dead(_QUEUE.name), body, properties)


def _measure(used: Settings, verb: Sequence[str]) -> None:
    environment = {
        **os.environ,
        "AMQP_URL": used.amqp_url,
        "MANAGEMENT_URL": used.management_url,
        "PYTHONPATH": str(CHECKOUT),
    }
    before = most = _broker_bytes(used)
    began = time.monotonic()
    with Path(os.devnull).open("wb") as nothing:
        process = subprocess.Popen([sys.executable, "-m", "leveret", "dead", *verb], env=environment, stdout=nothing)
        while process.poll() is None:
            most = max(most, _broker_bytes(used))
            time.sleep(_LOOK_SECONDS)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    what = " ".join(word for word in verb if not word.startswith("/"))
    print(
        f"dead {what}: {seconds:.1f} s, status {process.returncode}; at most {peak:.0f} MiB of any so far; "
        f"the broker {before / 2**20:.0f} MiB before, {most / 2**20:.0f} MiB at most",
        flush=True,
    )


def _broker_bytes(used: Settings) -> int:
    return sum(int(node.get("mem_used", 0)) for node in Management(used).call("GET", "nodes") or ())


if __name__ == "__main__":
    sys.exit(main())

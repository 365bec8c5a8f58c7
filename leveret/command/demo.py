"""The main job from nothing to results.

Finds or starts a broker, declares the topology, submits a word count for every text, runs a worker until all are
done, and shows what was counted, where it was saved and what took how long.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import click
from tqdm import tqdm

from leveret.command.ending import EXIT_ERROR, tell
from leveret.command.verb import Verb
from leveret.producers.examples.samples import SAMPLE_TASK, sample_texts, words
from leveret.producers.publisher import Publisher
from leveret.topology import settings
from leveret.topology.access.management import Management, bare_url
from leveret.topology.apply.declare import declare
from leveret.topology.errors import BrokerError, BrokerUnreachable
from leveret.topology.local import finding
from leveret.topology.printable import printable
from leveret.topology.settings import Settings

_SHOWN_WORDS = 6
_MANAGEMENT_TIMEOUT_SECONDS = 2.0


class _Ended(NamedTuple):
    verdict: str
    seconds: float
    error: str


@click.command(
    "demo",
    cls=Verb,
    help="Count the words of every text in DATA_DIR: find or start a broker, declare, submit, run a worker, and show "
    "what was counted, where it was saved and what took how long.",
    examples="""
leveret demo
DATA_DIR=~/books leveret demo
""",
)
def verb() -> int:
    """Run the demonstration."""
    configured = settings.load()
    texts = sample_texts(configured.data_dir)
    with _timed() as lap:
        found = finding.find(start=True, say=lambda line: tell(f"          {line}"))
        lap.what = f"broker: {found.how}"
    configured = replace(configured, amqp_url=found.amqp_url, management_url=found.management_url)
    with _timed("declared: exchanges, queue 'words', its retry tiers and its DLQ"):
        declare(configured, [words])
    with _timed(f"submitted and confirmed: {len(texts)} tasks"), Publisher(configured) as publisher:
        ids = publisher.submit_many(SAMPLE_TASK, ({"book": text} for text in texts))
    with _timed("counted, starting the worker included"):
        ended = _consume(configured, set(ids))
    return _show(configured, dict(zip(texts, ids, strict=True)), ended)


def _consume(configured: Settings, ids: set[str]) -> dict[str, _Ended]:
    """Run a worker in a process of its own until every task has ended; returns how."""
    ended: dict[str, _Ended] = {}
    worker = subprocess.Popen(
        [sys.executable, "-m", "leveret", "run", words.name, "--until-empty", "--log-format", "json"],
        env={**os.environ, "AMQP_URL": configured.amqp_url},
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",  # tasks may write anything there
    )
    assert worker.stderr is not None
    told_to_stop = False
    try:
        with tqdm(total=len(ids), unit=" texts", disable=None, leave=False) as progress:
            for line in worker.stderr:
                event = _parse(line)
                if event.get("id") in ids and event.get("message") in ("done", "bury"):
                    ended[str(event["id"])] = _Ended(
                        str(event["message"]), float(str(event["seconds"])), str(event.get("error") or "")
                    )
                    progress.update()
                elif event.get("message") == "retry":
                    progress.set_postfix_str(printable(f"one waits in {event.get('waits_in')}"))
                elif not event:
                    progress.write(printable(line.rstrip()), file=sys.stderr)
                if len(ended) == len(ids) and not told_to_stop:
                    told_to_stop = True
                    worker.terminate()  # once: a second signal would hand back what it still finishes
    except KeyboardInterrupt:
        print("\nstopping; what is not counted waits in queue 'words' for the next worker", file=sys.stderr)
        raise
    finally:
        worker.wait()
    return ended


def _parse(line: str) -> dict[str, object]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _show(configured: Settings, ids: dict[str, str], ended: dict[str, _Ended]) -> int:
    width = max(map(len, ids))
    tell("")
    for text, task_id in ids.items():
        end = ended.get(task_id)
        path = configured.output_dir / f"{text}_{task_id}.json"
        if end and end.verdict == "done" and path.exists():
            tell(f"  {text:<{width}}  {end.seconds * 1000:5.0f} ms   {_top_words(path)}")
        else:
            reason = end.error if end else "another worker took it, or it still waits for a retry"
            tell(f"  {text:<{width}}  not counted: {reason}")
    done = sum(end.verdict == "done" for end in ended.values())
    tell("", f"  saved     {configured.output_dir.resolve()}")
    tell(f"  RabbitMQ  {bare_url(configured.management_url)}  {_about_management(configured)}")
    if done < len(ids):
        tell(f"  {len(ids) - done} of {len(ids)} texts were not counted; what failed for good lies in words.dlq")
        return EXIT_ERROR
    return 0


def _about_management(configured: Settings) -> str:
    try:
        Management(configured, _MANAGEMENT_TIMEOUT_SECONDS).call("GET", "overview")
    except BrokerUnreachable:
        return "(does not answer: rabbitmq-plugins enable rabbitmq_management, or set MANAGEMENT_URL)"
    except BrokerError:
        return "(does not let the user of AMQP_URL look: rabbitmqctl set_user_tags USER monitoring)"
    return "(log in as AMQP_URL does; for a private node: leveret node status)"


def _top_words(path: Path) -> str:
    counts = json.loads(path.read_text(encoding="utf-8"))["words"]
    return "  ".join(f"{word} {count}" for word, count in list(counts.items())[:_SHOWN_WORDS])


@dataclass
class _Lap:
    what: str


@contextmanager
def _timed(what: str = "") -> Iterator[_Lap]:
    lap, began = _Lap(what), time.monotonic()
    yield lap
    tell(f"{time.monotonic() - began:6.2f} s  {lap.what}")

"""`--wait`: what a terminal sees of tasks until they have ended, and their results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from leveret.command.ending import EXIT_FAILED, EXIT_NOT_YET, EXIT_PARTLY, tell, tell_json
from leveret.command.shown_status import result_text
from leveret.command.verb import note
from leveret.producers.following.handle import Submitted, as_completed
from leveret.topology.errors import ResultTimeout
from leveret.topology.events import CLOSING, Event, Kind
from leveret.topology.message import read_json
from leveret.topology.printable import printable
from leveret.topology.status import State, Status

_BAR_CHARACTERS = 20
_SHOWN_CHARACTERS = 60


def wait_for_one(sent: Submitted[Any], timeout: float | None, as_json: bool, quiet: bool) -> int:
    """Show what happens to a task, and print its result when it has ended; returns the exit status.

    Raises `ResultMissed` when that cannot be known.
    """
    bar = _Bar(quiet)
    try:
        for kind, event in sent.events(timeout):
            if kind is Kind.PROGRESS:
                bar.show(event)
            elif kind is Kind.RETRYING:
                bar.clear()
                note(f"failed     {_attempt(event)}  {_why(event)}   again {_in(event)}", quiet)
            elif kind not in CLOSING and kind is not Kind.LOG:
                bar.clear()
                note(f"{kind:<10} {_attempt(event)}", quiet)
    except ResultTimeout as error:
        bar.clear()
        note(f"{error}; it goes on: leveret status {sent.id}")
        return EXIT_NOT_YET
    except KeyboardInterrupt:
        bar.clear()
        note(f"task {sent.id} goes on without us: leveret status {sent.id}", quiet)
        raise
    bar.clear()
    status = sent.status()
    if not status.state.is_final:
        sent.result(0)  # raises why nothing more is told
    _note_end(status, quiet)
    if as_json:
        tell_json(row_of(status))
    elif status.state is State.SUCCEEDED:
        tell(result_text(status.result))
    return 0 if status.state is State.SUCCEEDED else EXIT_FAILED


def wait_for_many(handles: Sequence[Submitted[Any]], timeout: float | None, quiet: bool) -> int:
    """Print a line of JSON for each task when it has ended; returns the exit status."""
    from tqdm import tqdm

    failed = 0
    with tqdm(total=len(handles), unit=" tasks", disable=True if quiet else None, file=sys.stderr) as progress:
        try:
            for sent in as_completed(handles, timeout=timeout):
                status = sent.status()
                if status.state is not State.SUCCEEDED:
                    failed += 1
                tell_json(row_of(status))
                progress.update()
        except ResultTimeout as error:
            note(f"{error}; they go on")
            return EXIT_NOT_YET
    note(f"{len(handles) - failed} tasks succeeded, {failed} did not", quiet and not failed)
    return 0 if not failed else EXIT_FAILED if failed == len(handles) else EXIT_PARTLY


def row_of(status: Status) -> dict[str, Any]:
    """Return how a task ended, for `tell_json`."""
    row: dict[str, Any] = {"id": status.id, "task": status.task, "state": str(status.state)}
    if status.result is not None:
        row["result"] = read_json(status.result)
    if status.failure is not None:
        row["failure"] = status.failure
    for name in ("attempt", "of", "seconds", "worker", "lies_in", "reason"):
        if value := getattr(status, name):
            row[name] = value
    return row


def _note_end(status: Status, quiet: bool) -> None:
    attempt = f"attempt {status.attempt} of {status.of}"
    where = f" on {status.worker}" if status.worker else ""
    if status.state is State.SUCCEEDED:
        note(f"succeeded  {attempt}  {status.seconds or 0:.2f} s{where}", quiet)
    elif status.state is State.CANCELLED:
        note(f"cancelled  {status.reason}")
    else:
        failure = status.failure or {}
        lies = f"; the message lies in {status.lies_in}" if status.lies_in else ""
        note(f"failed     {attempt}  {failure.get('type', '')}: {failure.get('message', '')}{lies}")


def _attempt(event: Event) -> str:
    return f"attempt {event['attempt']} of {event['of']}" if "attempt" in event and "of" in event else ""


def _why(event: Event) -> str:
    failure = event.get("failure", {})
    text = f"{failure.get('type', 'failed')}: {failure.get('message', '')}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _in(event: Event) -> str:
    return f"in {event['next_at'] - event['at']:.3g} s" if "next_at" in event else "soon"


class _Bar:
    """One line that is written over; nothing where stderr is no terminal."""

    def __init__(self, quiet: bool) -> None:
        self._is_shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._began = 0.0
        self._first = 0.0
        self._width = 0

    def show(self, event: Event) -> None:
        """Show how far a task has come."""
        if not self._is_shown:
            return
        done, total = event.get("done", 0), event.get("total")
        if not self._began:
            self._began, self._first = time.monotonic(), done
        rate = (done - self._first) / max(time.monotonic() - self._began, 0.001)
        if total:
            share = min(1.0, done / total)
            filled = round(share * _BAR_CHARACTERS)
            text = f"[{'#' * filled}{'.' * (_BAR_CHARACTERS - filled)}] {share:4.0%}  {done:g} of {total:g}"
            if rate > 0:
                text += f", {rate:.3g}/s, {(total - done) / rate:.0f} s left"
        else:
            text = f"{done:g} done" + (f", {rate:.3g}/s" if rate > 0 else "")
        text = printable(f"{text}  {event.get('note', '')}".rstrip())[:79]
        print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def clear(self) -> None:
        """Take it away, for a line of its own follows."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0

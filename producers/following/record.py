"""Asking the record what became of tasks, whoever has submitted them; a recorder has to run."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leveret.producers.following.entry import Entry
from leveret.producers.following.handle import Submitted
from leveret.topology import settings
from leveret.topology.errors import QuestionRefused, ResultMissed, UnreadableMessage
from leveret.topology.link import daemon_thread, default_broker
from leveret.topology.link.question import RECORDERS, Answer, Questions
from leveret.topology.message import check_id
from leveret.topology.printable import printable
from leveret.topology.record import MOST_IDS, Logged, read_logged, read_status
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status

_PAGE = 200
_MOST_RESULT_CHARACTERS = 128 * 1024 * 1024


class Record:
    """Asks over one connection, on the running loop; `open_record` makes one."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    async def statuses(self, ids: Sequence[str]) -> list[Status]:
        """Return what is known of each, in their order."""
        return [status for status, _ in await self.with_attempts(ids, wants_attempts=False)]

    async def with_attempts(
        self, ids: Sequence[str], wants_attempts: bool = True
    ) -> list[tuple[Status, list[Mapping[str, Any]]]]:
        """Return what is known of each, with its attempts that failed."""
        found: list[tuple[Status, list[Mapping[str, Any]]]] = []
        while len(found) < len(ids):
            some = ids[len(found) : len(found) + MOST_IDS]
            answer = await self._ask({"ask": "status", "ids": list(some), "attempts": wants_attempts})
            documents = _list_of(answer, "statuses")
            read = [_read(document) for document in documents]
            if not read or [status.id for status in read] != list(some[: len(read)]):
                raise _not_understood("it is not about the ids that were asked for")
            attempts = [document.get("attempts") for document in documents]
            found.extend(
                (status, [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else [])
                for status, rows in zip(read, attempts, strict=True)
            )
        return found

    async def result(self, task_id: str) -> Status:
        """Return what is known of a task, with its result as JSON text if it has succeeded."""
        pieces: list[str] = []
        size = 0
        while True:
            answer = await self._ask({"ask": "result", "id": task_id, "offset": size})
            status, piece = _read(answer.get("status")), answer.get("result")
            if piece is None:
                break
            if not isinstance(piece, str) or (size := size + len(piece)) > _MOST_RESULT_CHARACTERS:
                raise _not_understood("its result is none")
            pieces.append(piece)
            if answer.get("next") is None:
                break
            if answer["next"] != size:
                raise _not_understood("its result has a gap")
        return replace(status, result="".join(pieces) if pieces else None)

    async def page(
        self, states: Sequence[State], task: str, queue: str, since: float, after: object = None
    ) -> tuple[list[Status], object]:
        """Return a page of a list, what changed last first, and after what it goes on; None where it ends."""
        question = {"ask": "list", "states": states, "task": task, "queue": queue, "since": since, "most": _PAGE}
        answer = await self._ask({**question, "after": after})
        found, following = [_read(document) for document in _list_of(answer, "statuses")], answer.get("next")
        if following is not None and (not found or following == after):
            raise _not_understood("it does not go on")
        return found, following

    async def reserve(self, key: str, task_id: str, token: str, seconds: float | None) -> tuple[str, bool]:
        """Reserve a key for a task; returns the id that holds it, and whether it is this one and new."""
        answer = await self._ask({"ask": "reserve", "key": key, "id": task_id, "token": token, "seconds": seconds})
        holder, is_new = answer.get("id"), answer.get("is_new")
        if not isinstance(holder, str) or not isinstance(is_new, bool) or (is_new and holder != task_id):
            raise _not_understood("it does not say who holds the key")
        return check_id(holder), is_new

    async def release(self, key: str, task_id: str, token: str) -> None:
        """Free a key that was reserved with this token, if its task is not known."""
        await self._ask({"ask": "release", "key": key, "id": task_id, "token": token})

    async def logs(self, task_id: str) -> AsyncIterator[tuple[Status, list[Logged]]]:
        """Yield what a task has logged so far, a page at a time, each with what is known of the task then."""
        place: object = None
        while True:
            answer = await self._ask({"ask": "logs", "id": task_id, "from": place})
            status, found = _read(answer.get("status")), _list_of(answer, "logs")
            try:
                page = [read_logged(one) for one in found]
            except UnreadableMessage as error:
                raise _not_understood(str(error)) from error
            following = answer.get("next")
            if following is not None and (not page or following == place):
                raise _not_understood("it does not go on")
            yield status, page
            if following is None:
                return
            place = following

    async def _ask(self, question: Mapping[str, object]) -> Answer:
        return await self._questions.ask_one(RECORDERS, question)


@contextlib.asynccontextmanager
async def open_record(configured: Settings | None = None) -> AsyncIterator[Record]:
    """Connect to ask the record. Raises `BrokerUnreachable` or `AccessRefused`; questions raise `NobodyAnswers`."""
    used: Settings = configured if configured is not None else await daemon_thread.start(_resolved)
    questions = Questions(used, "leveret, asking the record")
    try:
        await questions.open()
        yield Record(questions)
    finally:
        await questions.close()


async def statuses_async(*ids: str, configured: Settings | None = None) -> list[Status]:
    """Do as `statuses` does, awaitable."""
    for one in ids:
        check_id(one)
    if not ids:
        return []
    async with open_record(configured) as record:
        return await record.statuses([str(one) for one in ids])


def statuses(*ids: str, configured: Settings | None = None) -> list[Status]:
    """Return what the record knows of each of these tasks, in their order; UNKNOWN for an id that nobody knows.

    Results are not among it. Without `configured` the settings of the environment hold. Raises `NobodyAnswers` where no
    recorder runs, `BrokerUnreachable`, `AccessRefused`, or `MessageError` for what can be no id.
    """
    return daemon_thread.call(lambda: asyncio.run(statuses_async(*ids, configured=configured)))


async def result_of_async(task_id: str, *, configured: Settings | None = None) -> Any:
    """Do as `result_of` does, awaitable."""
    return result_from(await _with_result(task_id, configured))


def result_of(task_id: str, *, configured: Settings | None = None) -> Any:
    """Return what a task has returned, as the record has it, whoever has submitted it.

    Raises `TaskFailed`, `TaskCancelled`, `ResultTimeout` when it has not ended yet, `ResultMissed` when nobody knows
    the id, and as `statuses` does.
    """
    return daemon_thread.call(lambda: asyncio.run(result_of_async(task_id, configured=configured)))


def with_result(task_id: str, configured: Settings | None = None) -> Status:
    """Return what the record knows of a task, its result included. Raises as `statuses` does."""
    return daemon_thread.call(lambda: asyncio.run(_with_result(task_id, configured)))


async def _with_result(task_id: str, configured: Settings | None) -> Status:
    check_id(task_id)
    async with open_record(configured) as record:
        return await record.result(str(task_id))


def result_from(status: Status) -> Any:
    """Return the result that a status has, or raise what becomes of who asks for it."""
    if status.state is State.UNKNOWN:
        raise ResultMissed(
            f"the record knows nothing of a task {printable(status.id)}: it was not followed, is not written yet, or "
            "was forgotten in time",
            status.id,
        )
    return Submitted[Any](status.id, status.task, entry=Entry.of(status)).result(0)


def recorded(
    *,
    state: State | str | Sequence[State | str] = (),
    task: str = "",
    queue: str = "",
    since: float | None = None,
    configured: Settings | None = None,
) -> Iterator[Status]:
    """Yield the tasks in the record, those that changed last first, a page at a time.

    `state` is one or several, `task` a name in which `*` and `?` stand for anything, `since` seconds before now. Raises
    as `statuses` does, and `QuestionRefused` for a list that takes too long.
    """
    states = [State(one) for one in ([state] if isinstance(state, str) else state)]
    begin = 0.0 if since is None else time.time() - since
    place: object = None
    while True:
        page, place = daemon_thread.call(_page, configured, states, task, queue, begin, place)
        yield from page
        if place is None:
            return


def _page(configured: Settings | None, *question: Any) -> tuple[list[Status], object]:
    async def ask() -> tuple[list[Status], object]:
        async with open_record(configured) as record:
            return await record.page(*question)

    return asyncio.run(ask())


def _resolved() -> Settings:
    return default_broker.resolve(settings.load())


def _list_of(answer: Answer, name: str) -> list[Any]:
    found = answer.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise _not_understood(f"it has no {name}")
    return found


def _read(document: object) -> Status:
    try:
        return read_status(document)
    except UnreadableMessage as error:
        raise _not_understood(str(error)) from error


def _not_understood(why: str) -> QuestionRefused:
    return QuestionRefused(f"the recorder's answer cannot be understood: {why}; is it of another version?")

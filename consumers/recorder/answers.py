"""Questions to the record and the answers to them: a closed list, of bounded size, by parameters only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

from leveret.consumers.recorder import keys, looking
from leveret.consumers.recorder.looking import Place, Wanted
from leveret.consumers.recorder.store import Store
from leveret.topology.errors import LeveretError, MessageError, QuestionRefused
from leveret.topology.link.bodies import LEFT_OUT
from leveret.topology.link.question import LARGEST_ANSWER_BYTES, LARGEST_QUESTION_BYTES, VERSION, read_object
from leveret.topology.message import check_id
from leveret.topology.message.keys import check_key, check_key_seconds
from leveret.topology.names import LONGEST_NAME_BYTES
from leveret.topology.record import (
    MOST_IDS,
    MOST_LISTED,
    RESULT_PIECE_CHARACTERS,
    Logged,
    LogPlace,
    write_status,
)
from leveret.topology.status import State, Status

_ROOM_BYTES = LARGEST_ANSWER_BYTES - 8 * 1024
"""For statuses; the rest is for what stands around them."""
_AROUND_LINES_BYTES = 128
_MOST_LOGGED = 100
"""Events of one answer; each has 256 KiB at most."""
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

_LARGEST_NUMBER = 2**53
"""In a question; larger ones overflow here and there."""

Question = Mapping[str, Any]


def answer(store: Store, body: bytes) -> bytes:
    """Return the answer to a question, which is a refusal with the reason where it is none that can be answered."""
    try:
        if body is LEFT_OUT:
            raise QuestionRefused(f"a question over {LARGEST_QUESTION_BYTES:,} bytes is not answered; ask for less")
        question = read_object(body)
        if question is None:
            raise QuestionRefused(f"a question is a JSON object with version {VERSION}, and this is none")
        ask = question.get("ask")
        if not isinstance(ask, str) or ask not in _ANSWERS:
            raise QuestionRefused(f"the record is asked for {', '.join(_ANSWERS)}, and nothing else")
        said = _ANSWERS[ask](store, question)
    except LeveretError as error:
        said = {"error": str(error)}
    return _encode({"version": VERSION, **said}).encode()


def _answer_status(store: Store, question: Question) -> dict[str, Any]:
    ids = question.get("ids")
    if not isinstance(ids, list) or not 1 <= len(ids) <= MOST_IDS:
        raise QuestionRefused(f"a question for statuses has from 1 to {MOST_IDS} ids")
    found = looking.find(store, [_checked(task_id) for task_id in ids])
    wants_attempts = question.get("attempts") is True
    attempts = looking.attempts(store, ids) if wants_attempts else {}
    said = [{**document, "attempts": attempts.get(document["id"], [])} if wants_attempts else document
            for document in map(write_status, found)]  # fmt: skip
    return {"statuses": _what_fits(said)}


def _answer_result(store: Store, question: Question) -> dict[str, Any]:
    offset = question.get("offset", 0)
    if type(offset) is not int or offset < 0:
        raise QuestionRefused("the offset of a result is a number of characters")
    (status,) = looking.find(store, [_checked(question.get("id"))])
    result = status.result
    said: dict[str, Any] = {"status": write_status(status), "result": None, "next": None}
    if result is not None:
        end = offset + RESULT_PIECE_CHARACTERS
        said |= {"result": result[offset:end], "next": end if end < len(result) else None}
    return said


def _answer_list(store: Store, question: Question) -> dict[str, Any]:
    states, since, most = question.get("states", []), question.get("since", 0), question.get("most", 100)
    try:
        wanted_states = [State(one) for one in states]
    except (TypeError, ValueError) as error:
        raise QuestionRefused("the states of a list are names of states") from error
    if not _is_number(since):
        raise QuestionRefused("the time of a list is a number of seconds")
    if type(most) is not int or not 1 <= most <= MOST_LISTED:
        raise QuestionRefused(f"a list has from 1 to {MOST_LISTED} tasks")
    wanted = Wanted(
        list(dict.fromkeys(wanted_states)) or list(State),
        _text(question, "task"),
        _text(question, "queue"),
        float(since),
        _place(question.get("after")),
        most,
    )
    found, place = looking.find_all(store, wanted)
    said = _what_fits(_short(status) for status, _ in found)
    if len(said) < len(found):
        place = found[len(said) - 1][1]
    return {"statuses": said, "next": place}


def _answer_reserve(store: Store, question: Question) -> dict[str, Any]:
    wanted = _wanted_key(question)
    try:
        seconds = check_key_seconds(question.get("seconds"))
    except MessageError as error:
        raise QuestionRefused(str(error)) from error
    holder, is_new = keys.reserve(store, wanted, seconds)
    return {"id": holder, "is_new": is_new}


def _answer_release(store: Store, question: Question) -> dict[str, Any]:
    return {"released": keys.release(store, _wanted_key(question))}


def _wanted_key(question: Question) -> keys.Wanted:
    token = question.get("token")
    if not isinstance(token, str) or not re.fullmatch("[0-9a-f]{32}", token):
        raise QuestionRefused("the token of a key is 32 hexadecimal digits")
    try:
        return keys.Wanted(check_key(question.get("key")), check_id(question.get("id", "")), token)
    except MessageError as error:
        raise QuestionRefused(str(error)) from error


def _answer_logs(store: Store, question: Question) -> dict[str, Any]:
    place = _log_place(question.get("from"))
    status, found = looking.logs(store, _checked(question.get("id")), place, _MOST_LOGGED + 1)
    room = _ROOM_BYTES - len(_encode(document := write_status(status)))
    said, following = _lines_that_fit(found, place, room)
    return {"status": document, "logs": said, "next": following}


_ANSWERS: dict[str, Callable[[Store, Question], dict[str, Any]]] = {
    "status": _answer_status,
    "result": _answer_result,
    "list": _answer_list,
    "logs": _answer_logs,
    "reserve": _answer_reserve,
    "release": _answer_release,
}


def _what_fits(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return as many as an answer holds, and at least one, whose texts are bounded."""
    said: list[dict[str, Any]] = []
    size = 0
    for document in documents:
        size += len(_encode(document)) + 1
        if said and size > _ROOM_BYTES:
            break
        said.append(document)
    return said


def _lines_that_fit(found: list[Logged], place: LogPlace, room: int) -> tuple[list[dict[str, Any]], LogPlace | None]:
    """Return what was logged from this place on, and the first line that has no room."""
    said: list[dict[str, Any]] = []
    for number, one in enumerate(found):
        begin = place.line if (one.at, one.attempt) == place[:2] else 0
        room -= _AROUND_LINES_BYTES
        if number == _MOST_LOGGED or room < 0:
            return said, LogPlace(one.at, one.attempt, begin)
        part = {**one._asdict(), "lines": (lines := [])}
        said.append(part)
        for at, line in enumerate(one.lines[begin:], begin):
            room -= len(_encode(line)) + 1
            if room < 0:
                part["dropped"] = 0  # that is said with its last line
                return said, LogPlace(one.at, one.attempt, at)
            lines.append(line)
    return said, None


def _short(status: Status) -> dict[str, Any]:
    """Return a status as a list has it: where something failed is for who asks about the task."""
    document = write_status(status)
    if "failure" in document:
        document["failure"] = {name: said for name, said in document["failure"].items() if name != "traceback"}
    return document


def _checked(task_id: Any) -> str:
    try:
        return check_id(task_id)
    except MessageError as error:
        raise QuestionRefused(str(error)) from error


def _text(question: Question, name: str) -> str:
    value = question.get(name, "")
    if not isinstance(value, str) or len(value) > LONGEST_NAME_BYTES or not value.isprintable():
        raise QuestionRefused(f"the {name} of a list is printable text of at most {LONGEST_NAME_BYTES} characters")
    return value


def _place(after: object) -> Place | None:
    match after:
        case None:
            return None
        case [changed, str(task_id)] if _is_number(changed):
            return Place(float(changed), _checked(task_id))
    raise QuestionRefused("a list goes on after a time and an id")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER


def _log_place(place: object) -> LogPlace:
    match place:
        case None:
            return LogPlace(0.0, 0, 0)
        case [at, int(attempt), int(line)] if _is_number(at) and 0 <= attempt < 2**31 and 0 <= line < _LARGEST_NUMBER:
            return LogPlace(float(at), int(attempt), int(line))
    raise QuestionRefused("what a task has logged goes on from a time, an attempt and a line")

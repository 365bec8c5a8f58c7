"""Arguments by annotation: what goes through JSON comes out as it was, and what does not fit is named by its place."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import json
import re
import subprocess
import sys
import typing
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.consumers.tasks.arguments import Arguments
from leveret.consumers.tasks.reading import Misfit
from leveret.topology.errors import MessageError, TaskModuleError
from leveret.topology.message import TaskMessage, decode, read_json
from leveret.topology.message.plain import plain
from leveret.topology.settings import CHECKOUT

if TYPE_CHECKING:
    from fractions import Fraction

FAR_EAST = timezone(timedelta(hours=5, minutes=45))
FAR_WEST = timezone(-timedelta(hours=9, minutes=30))
ADDRESS = uuid.UUID("12345678-1234-5678-1234-567812345678")
HUGE = 10**4000


def check(arguments: Arguments, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Do as a submit does: make the message, and have its arguments read as a worker reads them."""
    body = TaskMessage.create("mail.send", args, kwargs).body
    call = decode(body, None, None, len(body))
    arguments.fit(call.args, call.kwargs)


class Color(enum.Enum):
    """An enum of text."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """An enum of integers."""

    LOW = 1


@dataclasses.dataclass(frozen=True)
class Item:
    """A dataclass that has an opinion on its values."""

    price: Decimal
    tags: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raise what a class may raise."""
        if self.price < 0:
            raise ValueError("a `price` is\nnot negative")
        if self.price > 1000:
            raise RuntimeError(f"{self.price}\x1b[31m")


@dataclasses.dataclass
class Tree:
    """A dataclass that holds others of its kind."""

    name: str
    children: list[Tree] = dataclasses.field(default_factory=list)


class Order(msgspec.Struct, rename="camel", tag=True, forbid_unknown_fields=True):
    """A struct that is called otherwise in JSON, and takes no field it does not know."""

    sent_at: datetime
    paid: bool = False


class Refund(msgspec.Struct, tag=True):
    """A struct that is told from another by its tag."""

    amount: Decimal


class Row(msgspec.Struct, array_like=True):
    """A struct that is an array in JSON."""

    number: int
    on: date


@attrs.define
class Parcel:
    """A class of attrs with a validator and a private field."""

    weight: float = attrs.field(validator=attrs.validators.gt(0))
    _seal: bytes = b""


class Place(NamedTuple):
    """A named tuple."""

    north: float
    name: str = "here"


class Options(TypedDict):
    """A typed dictionary."""

    since: date
    limit: NotRequired[int]


class Person(pydantic.BaseModel):
    """A strict model: as Python's objects it would take no text for a date, as JSON it does."""

    model_config = pydantic.ConfigDict(strict=True, ser_json_bytes="base64", val_json_bytes="base64")

    born: date
    names: set[str] = pydantic.Field(default=set(), alias="calledBy")
    key: bytes = b""
    friends: list[Person] = []
    size: float = 1.5
    count: int = 1


@dataclasses.dataclass
class Crew:
    """Models within a dataclass."""

    people: dict[str, Person]


class Open(pydantic.BaseModel):
    """A model with a default that JSON has no word for."""

    limit: float = float("inf")


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass of pydantic, which msgspec would make without its checks."""

    age: int = pydantic.Field(gt=0)


@dataclasses.dataclass
class Mixed:
    """A dataclass with a field that JSON cannot tell apart."""

    text: list[str | bytes]


class Client:
    """A class that only Python code can make."""


def takes(annotation: Any) -> Arguments:
    """Return the arguments of a function of one parameter, `it`."""

    def function(it: Any) -> None: ...

    function.__annotations__ = {"it": annotation}
    return Arguments(function, "mail.send")


def sent(value: Any) -> Any:
    """Return what a message brings of a value."""
    return read_json(json.dumps(value, ensure_ascii=False, allow_nan=False, default=plain))


def arrived(annotation: Any, value: Any) -> Any:
    """Send a value to a parameter of that annotation, by name and by position, and return what arrives."""
    arguments = takes(annotation)
    check(arguments, [value], {})
    (by_position,), nothing = arguments.fit([sent(value)], {})
    none, by_name = arguments.fit([], {"it": sent(value)})
    assert (by_position, nothing, none) == (by_name["it"], {}, [])
    return by_position


def misfit(annotation: Any, value: Any) -> str:
    """Return why a value, as JSON brings it, does not fit; the submitting side must find the same."""
    texts = set()
    for call in (takes(annotation).fit, functools.partial(check, takes(annotation))):
        with pytest.raises(Misfit) as refused:
            call([], {"it": value})
        texts.add(str(refused.value))
    (text,) = texts
    return text


def shown(value: object) -> str:
    """The name of a case, the same in every process: without addresses in memory, and sets in order."""
    return re.sub(r" at 0x\w+", "", str(sorted(value) if isinstance(value, (set, frozenset)) else value))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 5),
        (int, HUGE),
        (int, -(2**64)),
        (Annotated[int, msgspec.Meta(ge=1)], HUGE),
        (list[int], [2**63, 2**64, HUGE]),
        (float, 1.5),
        (str, "é"),
        (bool, True),
        (None, None),
        (datetime, datetime(2026, 1, 2, 3, 4, 5, 6)),
        (datetime, datetime(2026, 1, 2, 3, 4, tzinfo=UTC)),
        (datetime, datetime(2026, 1, 2, 3, 4, tzinfo=FAR_EAST)),
        (date, date(2026, 1, 2)),
        (time, time(3, 4, 5, 6)),
        (time, time(3, 4, tzinfo=FAR_WEST)),
        (timedelta, timedelta(days=-1, microseconds=1)),
        (timedelta, timedelta.max),
        (timedelta, timedelta.min),
        (uuid.UUID, ADDRESS),
        (Decimal, Decimal("1.10")),
        (Decimal, Decimal("1E+30")),
        (Color, Color.BLUE),
        (Level, Level.LOW),
        (bytes, b"\x00\xff"),
        (bytearray, bytearray(b"\x00\xff")),
        (memoryview, memoryview(b"\x00\xff")),
        (set[date], {date(2026, 1, 2)}),
        (frozenset[tuple[int, str]], frozenset({(1, "a"), (2, "b")})),
        (tuple[int, ...], (1, 2)),
        (tuple[datetime, tuple[bytes, set[int]]], (datetime(2026, 1, 2), (b"a", {1}))),
        (dict[str, timedelta], {"a": timedelta(seconds=1)}),
        (Item, Item(Decimal("1.10"), frozenset({"a"}))),
        (list[Item], [Item(Decimal(1))]),
        ("Tree", Tree("a", [Tree("b", [Tree("c")])])),
        (Order, Order(datetime(2026, 1, 2, tzinfo=UTC), True)),
        (Order | Refund, Refund(Decimal("0.1"))),
        (Row, Row(1, date(2026, 1, 2))),
        (Parcel, Parcel(1.5, b"seal")),
        (Place, Place(1.5, "there")),
        (Options, Options(since=date(2026, 1, 2), limit=5)),
        (Options, Options(since=date(2026, 1, 2))),
        (Person, Person(born=date(2026, 1, 2), calledBy={"a"}, key=b"\xff", count=HUGE)),
        (Person, Person(born=date(2026, 1, 2), friends=[Person(born=date(2026, 1, 3), size=2.0)])),
        (Person | None, None),
        (Crew, Crew({"cook": Person(born=date(2026, 1, 2))})),
        (typing.Optional[datetime], None),  # noqa: UP045
        (typing.Union[int, list[date]], [date(2026, 1, 2)]),  # noqa: UP007
        ("int | None", None),
        ("list['Item'] | None", [Item(Decimal(1))]),
        (Literal["a", 5, None], 5),
        (Annotated[str, msgspec.Meta(pattern="^a")], "abc"),
        (collections.abc.Sequence[date], [date(2026, 1, 2)]),
        (collections.abc.Mapping[str, date], {"a": date(2026, 1, 2)}),
        (collections.abc.Hashable, "text"),
        (typing.NewType("Name", str), "text"),
    ],
    ids=shown,
)
def test_what_is_sent_arrives(annotation: Any, value: Any) -> None:
    """Each type goes through JSON and comes out equal, and of the same type."""
    made = arrived(annotation, value)

    assert made == value
    assert type(made) is type(value)
    assert getattr(made, "tzinfo", None) == getattr(value, "tzinfo", None)
    if isinstance(value, datetime):
        assert made.utcoffset() == value.utcoffset()


ZONES = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (datetime, st.datetimes(timezones=ZONES).map(lambda value: value.replace(fold=0))),  # ISO 8601 has no fold
    (date, st.dates()),
    (time, st.times(timezones=ZONES).map(lambda value: value.replace(fold=0))),
    (timedelta, st.timedeltas()),
    (uuid.UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (bytes, st.binary()),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, st.text()),
]


@given(data=st.data(), leaf=st.sampled_from(LEAVES))
def test_any_value_arrives(data: st.DataObject, leaf: tuple[Any, st.SearchStrategy[Any]]) -> None:
    """Whatever the value of such a type, alone or in a list, it is the same to the last digit."""
    annotation, values = leaf
    value = data.draw(values)
    made = arrived(annotation, value)

    assert (repr(made), type(made)) == (repr(value), type(value))
    assert arrived(typing.Optional[annotation], value) == value  # noqa: UP045


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (float, 3, 3.0),
        (float, 10**30, 1e30),
        (Decimal, 1.1, Decimal("1.1")),
        (Decimal, HUGE, Decimal(HUGE)),
        (datetime, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (datetime, "2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5)),
        (timedelta, "P1DT2H", timedelta(days=1, hours=2)),
        (dict[int, date], {"1": "2026-01-02"}, {1: date(2026, 1, 2)}),
        (list[dict[date, int]], [{"2026-01-02": 1}], [{date(2026, 1, 2): 1}]),
        (int | float, 3, 3),
        (int | float, 10**400, 10**400),
        (Item, {"price": "1", "unknown": 1}, Item(Decimal(1))),
        (Open, {}, Open()),
        (Person, {"born": "2026-01-02", "calledBy": ["a"]}, Person(born=date(2026, 1, 2), calledBy={"a"})),
    ],
)
def test_other_producers_have_other_forms(annotation: Any, value: Any, expected: Any) -> None:
    """What JSON can also say for a type is taken, exactly."""
    made = takes(annotation).fit([], {"it": value})[1]["it"]

    assert (made, type(made)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (str, 5, "it: expected str, got int"),
        (int, "3", "it: expected int, got str"),
        (int, True, "it: expected int, got bool"),
        (int, 1.0, "it: expected int, got float"),
        (bool, 1, "it: expected bool, got int"),
        (float, "1.5", "it: expected float, got str"),
        (float, True, "it: expected float, got bool"),
        (float, 10**400, "it: number out of range"),
        (int | None, "a", "it: expected int | null, got str"),
        (str, None, "it: expected str, got null"),
        (datetime, "yesterday", "it: invalid RFC3339 encoded datetime"),
        (datetime, 5, "it: expected datetime, got int"),
        (date, "2026-02-30", "it: invalid RFC3339 encoded date"),
        (Decimal, "abc", "it: invalid decimal string"),
        (uuid.UUID, "abc", "it: invalid UUID"),
        (bytes, "a", "it: invalid base64 encoded string"),
        (Color, "green", "it: invalid enum value 'green'"),
        (Literal["a"], "b", "it: invalid enum value 'b'"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "it: expected int >= 1"),
        (tuple[int, str], [1], "it: expected array of length 2, got 1"),
        (tuple[int, str], [1, 2], "it[1]: expected str, got int"),
        (list[Item], [{"price": "1"}, {"price": "2"}, {"price": "abc"}], "it[2].price: invalid decimal string"),
        (list[Item], [{}], "it[0]: object missing required field 'price'"),
        (dict[str, list[int]], {"a": ["b"]}, "it[...][0]: expected int, got str"),
        (dict[int, int], {"a": 1}, "it: expected int, got str for a key"),
        (list[dict[int, int]], [{"a": 1}], "it[0]: expected int, got str for a key"),
        (list[Item], [{"price": -1}], r"it[0]: a `price` is\nnot negative"),
        (list[Item], [{"price": 2000}], r"it: RuntimeError: 2000\x1b[31m"),
        ("Tree", {"name": "a", "children": [{"name": 1}]}, "it.children[0].name: expected str, got int"),
        (Order, {"type": "Order", "sentAt": 1}, "it.sentAt: expected datetime, got int"),
        (
            Order,
            {"type": "Order", "sentAt": "2026-01-02T00:00:00", "\x1b": 1},
            r"it: object contains unknown field '\x1b'",
        ),
        (Order | Refund, {"type": "Other"}, "it.type: invalid value 'Other'"),
        (Parcel, {"weight": 0.0, "_seal": ""}, "it: 'weight' must be > 0: 0.0"),
        (Place, ["north"], "it[0]: expected float, got str"),
        (Options, {"since": "2026-01-02", "limit": "5"}, "it.limit: expected int, got str"),
        (Options, {}, "it: object missing required field 'since'"),
        (Person, 5, "it: input should be an object"),
        (Person, {}, "it.born: field required"),
        (Person, {"born": "2026-01-02", "size": 10**400}, "it: number out of range"),
        (Person, {"born": "2026-01-02", "size": -(10**400)}, "it: number out of range"),
        (
            Crew,
            {"people": {"cook": {"born": "2026-01-02", "friends": [{"born": "2026-01-02", "count": "a"}]}}},
            "it.people[...].friends[0].count: input should be a valid integer",
        ),
        (list[Person | None], [None, {"born": 1.5}], "it[1].born: input should be a valid date"),
    ],
)
def test_a_misfit_says_where_and_what(annotation: Any, value: Any, text: str) -> None:
    """The text begins with the parameter, goes on to the place within, and says what was expected there."""
    assert misfit(annotation, value) == text


def test_what_cannot_be_in_a_set_is_a_misfit() -> None:
    """Msgspec says where and what since 0.23; before that it passes on what Python says."""
    said = misfit(set, [[1]])

    assert said in ("it[0]: expected a hashable value, got list", "it: TypeError: unhashable type: 'list'")


def test_a_misfit_is_a_value_error_of_two_parts() -> None:
    """Place and problem can be had apart; without a place the text is the problem."""
    with pytest.raises(ValueError, match=r"it\[0\]: expected int") as refused:
        takes(list[int]).fit([], {"it": ["a"]})
    found = refused.value

    assert isinstance(found, Misfit)
    assert (found.path, found.problem) == ("it[0]", "expected int, got str")
    assert str(Misfit("", "no")) == "no"


ANYTHING = [1, {"a": [HUGE, None, 2.5, "x", True]}, {"1": []}]


@pytest.mark.parametrize("annotation", [Any, object, "Any", "object", inspect.Parameter.empty])
def test_what_is_not_annotated_stays_as_it_came(annotation: Any) -> None:
    """`Any`, `object` and nothing take the very value that was read, beside parameters of a type as well."""

    def function(it: Any, other: Any = None) -> None: ...

    function.__annotations__ = {} if annotation is inspect.Parameter.empty else {"it": annotation}
    alone = Arguments(function, "mail.send")
    function.__annotations__ = function.__annotations__ | {"other": date}
    beside = Arguments(function, "mail.send")

    assert alone.fit([], {"it": ANYTHING})[1]["it"] is ANYTHING
    args: list[Any] = [ANYTHING]
    assert alone.fit(args, {})[0] is args
    assert beside.fit([], {"it": ANYTHING, "other": "2026-01-02"})[1]["it"] is ANYTHING
    assert beside.fit([ANYTHING, "2026-01-02"], {})[0][0] is ANYTHING


def test_a_default_is_not_read() -> None:
    """A parameter that is not given stays ungiven, whatever its default is."""

    def function(a: int, b: int = "default", c: date | None = DAY, *, d: str = 5) -> None: ...  # type: ignore

    arguments = Arguments(function, "mail.send")

    assert arguments.fit([], {"a": 1}) == ([], {"a": 1})
    assert arguments.fit([1], {}) == ([1], {})
    assert arguments.fit([], {"a": 1, "c": "2026-01-02"}) == ([], {"a": 1, "c": date(2026, 1, 2)})


def every_kind(a: date, /, b: date, *rest: date, c: date = date.min, d: Any = 0, **others: date) -> None: ...


DAY, TEXT = date(2026, 1, 2), "2026-01-02"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([DAY, DAY], {}),
        ([DAY], {"b": DAY}),
        ([DAY, DAY, DAY, DAY], {"c": DAY}),
        ([DAY, DAY], {"d": TEXT}),
        ([DAY, DAY], {"e": DAY, "f": DAY}),
        ([DAY], {"a": DAY, "b": DAY, "rest": DAY, "others": DAY, "args": DAY}),
    ],
)
def test_every_kind_of_parameter_is_read(args: list[Any], kwargs: dict[str, Any]) -> None:
    """What came by position stays so, what came by name too, and each of many is read."""
    arguments = Arguments(every_kind, "mail.send")

    assert arguments.fit(sent(args), sent(kwargs)) == (args, kwargs)
    check(arguments, args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ([1, TEXT], {}, "a: expected date, got int"),
        ([TEXT], {"b": 1}, "b: expected date, got int"),
        ([TEXT, TEXT, TEXT, 1], {}, "rest[1]: expected date, got int"),
        ([TEXT, TEXT], {"e": TEXT, "f\n": 1}, r"f\n: expected date, got int"),
        ([TEXT, TEXT], {"a": 1}, "a: expected date, got int"),
        ([TEXT, TEXT], {"x" * 100: 1}, "x" * 60 + ": expected date, got int"),
    ],
)
def test_every_kind_of_parameter_is_named(args: list[Any], kwargs: dict[str, Any], text: str) -> None:
    """One of `*rest` is named by its number, one of `**others` by its own name."""
    with pytest.raises(Misfit) as refused:
        Arguments(every_kind, "mail.send").fit(args, kwargs)

    assert str(refused.value) == text


def untyped_rest(a: Any, *rest: Any, c: date, **others: Any) -> None: ...


def test_many_without_a_type_stay_as_they_came() -> None:
    """`*rest` and `**others` without a type pass through a function that has one elsewhere."""
    arguments = Arguments(untyped_rest, "mail.send")

    assert arguments.fit([1, TEXT, [2]], {"c": TEXT, "z": TEXT}) == ([1, TEXT, [2]], {"c": DAY, "z": TEXT})


def send(to: str, subject: str = "", /, *, copy_to: str = "") -> None: ...


def plain_send(to: str, subject: str = "") -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "text"),
    [
        (plain_send, [], {}, "missing a required argument: 'to'; {} was called with no arguments"),
        (plain_send, ["a"], {"tu": 1}, "unexpected argument 'tu'; {} was called with 1 positional, tu=…"),
        (
            plain_send,
            [],
            {"tu": 1},
            "missing a required argument: 'to'; unexpected argument 'tu'; did you mean 'to'?; {} was called with tu=…",
        ),
        (
            plain_send,
            [],
            {"to": "a", "subjekt": "b"},
            "unexpected argument 'subjekt'; did you mean 'subject'?; {} was called with to=…, subjekt=…",
        ),
        (plain_send, ["a"], {"zzz": "b"}, "unexpected argument 'zzz'; {} was called with 1 positional, zzz=…"),
        (plain_send, ["a"], {"z\n": "b"}, r"unexpected argument 'z\n'; {} was called with 1 positional, z\n=…"),
        (plain_send, ["a", "b", "c"], {}, "too many positional arguments; {} was called with 3 positional"),
        (plain_send, ["a"], {"to": "b"}, "multiple values for argument 'to'; {} was called with 1 positional, to=…"),
        (
            send,
            ["a"],
            {"subject": "b"},
            "argument 'subject' is taken by its position only; {} was called with 1 positional, subject=…",
        ),
        (send, ["a", "b", "c"], {}, "too many positional arguments; {} was called with 3 positional"),
    ],
)
def test_a_call_that_does_not_bind_is_explained(
    function: Any, args: list[Any], kwargs: dict[str, Any], text: str
) -> None:
    """What is wrong, missing or unknown is said first, with the nearest name that is free, and then the whole call."""
    arguments = Arguments(function, "mail.send")
    signature = f"mail.send{inspect.signature(function)}"
    for call in (arguments.fit, functools.partial(check, arguments)):
        with pytest.raises(Misfit) as refused:
            call(args, kwargs)

        assert str(refused.value) == text.replace("{}", signature)


def test_what_others_take_is_not_unexpected() -> None:
    """With `**others` no name is unknown, and only what is missing is told."""
    with pytest.raises(Misfit, match=r"^missing a required .*'a'; mail.send\(.*\) -> 'None' was called with z=…$"):
        Arguments(every_kind, "mail.send").fit([], {"z": 1})


def test_the_argument_that_does_not_fit_is_named_among_others_that_do() -> None:
    """Each kind of value that is fine by itself is not the one that is blamed."""

    def function(a: dict[int, int], b: Person, c: int) -> None: ...

    with pytest.raises(Misfit, match=r"^c: expected int, got str$"):
        Arguments(function, "mail.send").fit([{"1": 2}, {"born": TEXT}], {"c": "x"})


P = typing.ParamSpec("P")


def test_what_a_decorator_passes_on_takes_anything() -> None:
    """`P.args` and `P.kwargs` say nothing about a value."""

    def function(*args: Any, **kwargs: Any) -> None: ...

    spec = typing.cast("Any", P)
    function.__annotations__ = {"args": spec.args, "kwargs": spec.kwargs}

    assert Arguments(function, "mail.send").fit([1, "a"], {"b": None}) == ([1, "a"], {"b": None})


def test_a_long_name_is_not_compared_for_long() -> None:
    """A megabyte of a name is cut before it is looked at, and shown."""
    with pytest.raises(Misfit, match=f"unexpected argument 's{{60}}'; {'plain'}"):
        Arguments(plain_send, "plain").fit(["a"], {"s" * 1_000_000: 1})


def unresolvable(it: list[Fraction]) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "annotation", "reason"),
    [
        (Arguments(unresolvable, "mail.send"), "list[Fraction]", "'Fraction' is not defined"),
        (takes("1 +"), "1 +", "'1 \\+'; define or import what it names at the top"),
        (takes(str | bytes), "str | bytes", "never work: Type unions may not contain more than one str-like type"),
        (takes(list[Mixed]), "Mixed", "str-like"),
        (takes(list[Item | Tree]), "list[.*Item | .*Tree]", "more than one dataclass"),
        (takes(Person | int), "Person | int", "custom type"),
        (takes(Client), "Client", "never work: no message can bring a tests.unit.test_arguments.Client"),
        (takes(list[Client | None]), r"list[.*Client | None]", "no message can bring a .*Client"),
        (takes(dict[str, collections.abc.Callable[[], int]]), "dict[str, .*Callable", "bring a collections.abc.Calla"),
        (takes(type[int]), "type[int]", "no message can bring a type"),
        (takes(Checked), "Checked", "Checked is a dataclass of pydantic, .*; make it a model"),
        (takes(list[Checked] | None), "Checked", "Checked is a dataclass of pydantic"),
    ],
    ids=shown,
)
def test_an_annotation_that_can_never_work_is_named(arguments: Arguments, annotation: str, reason: str) -> None:
    """Task, parameter, annotation and reason are told, at `prepare` and, without it, at the first call."""
    pattern = (
        rf"^task 'mail\.send': the annotation '.*{annotation.replace('[', '.').replace('|', '.').replace('+', '.')}"
    )
    for call in (arguments.prepare, lambda: arguments.fit([], {"it": 1}), lambda: check(arguments, [1], {})):
        with pytest.raises(TaskModuleError, match=rf"{pattern}.*' of parameter 'it' can.*{reason}"):
            call()


def test_a_class_of_pythons_own_may_stand_where_there_is_a_default() -> None:
    """What tests hand to a function, and no message can, is refused in a message and no fault of the task."""

    def function(it: Client | None = None, *rest: Client, **others: Client) -> None: ...

    arguments = Arguments(function, "mail.send")
    arguments.prepare()

    assert arguments.fit([], {}) == ([], {})
    assert arguments.fit([None], {}) == ([None], {})
    for args, kwargs, path in (([5], {}, "it"), ([None, 5], {}, r"rest\[0\]"), ([], {"z": 5}, "z")):
        with pytest.raises(Misfit, match=f"^{path}: expected Client.*, got int"):
            arguments.fit(args, kwargs)


def test_preparing_twice_changes_nothing() -> None:
    """A worker may prepare what a call has prepared already."""
    arguments = takes(tuple[date, ...])
    arguments.prepare()
    read = arguments._read
    arguments.prepare()

    assert arguments._read is read
    assert arguments.fit([[TEXT]], {}) == ([(DAY,)], {})


def test_decorated_functions_are_read_by_what_they_wrap() -> None:
    """The annotations' names are those of the module that wrote them, not of the decorator's."""
    namespace: dict[str, Any] = {}
    exec("from datetime import date as Day\ndef function(it: 'Day') -> None: ...", namespace)
    namespace["__name__"] = "elsewhere"

    @functools.wraps(namespace["function"])
    def wrapped(*args: Any, **kwargs: Any) -> None: ...

    assert Arguments(wrapped, "mail.send").fit([TEXT], {}) == ([DAY], {})


class Job:
    """What is called to be made, and has a method that can be called."""

    def __init__(self, it: date) -> None: ...

    def method(self, it: date) -> None: ...


@pytest.mark.parametrize("function", [Job, Job(DAY).method])
def test_classes_and_methods_are_functions_too(function: Any) -> None:
    """Whatever has a signature is read by it; the return annotation is not looked at."""

    assert Arguments(function, "mail.send").fit([], {"it": TEXT}) == ([], {"it": DAY})


def test_any_name_of_a_parameter_is_possible() -> None:
    """Names with a meaning elsewhere, or of other letters, are names here."""

    def function(self: date, type: date, _x: date, __y: date, __init__: date, größe: date, UNSET: date) -> None: ...  # noqa: N803

    names = list(inspect.signature(function).parameters)

    assert Arguments(function, "mail.send").fit([], dict.fromkeys(names, TEXT)) == ([], dict.fromkeys(names, DAY))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), "JSON has no word for a value of type builtins.object"),
        ({1: 2}, "the key 1 of an object is not text"),
        (float("nan"), "Out of range float"),
        ("\ud800", "surrogates"),
        (10**5000, "digits"),
        (json.loads(300 * "[" + 300 * "]"), "more than 200 levels"),
    ],
    ids=["object", "key", "nan", "half", "long", "deep"],
)
def test_what_cannot_be_sent_is_told_with_its_argument(value: Any, reason: str) -> None:
    """Making the message finds what JSON cannot carry, and in which argument, where it is one."""
    where = "the arguments" if "levels" in reason else "argument 'it'"

    with pytest.raises(MessageError, match=f"^{where} of task 'mail.send' cannot be written as JSON: .*{reason}"):
        check(takes(Any), [], {"other": 1, "it": value})


@given(
    annotation=st.sampled_from([int, float, str, bool, date, Decimal, bytes, list[int], set[str], Item, Person, Any]),
    value=st.one_of(
        *(values for _, values in LEAVES),
        st.none() | st.booleans() | st.lists(st.integers(), max_size=2) | st.sets(st.text(max_size=2), max_size=2),
        st.just(Item(Decimal(1))) | st.just(Person(born=DAY)) | st.just(object()) | st.just({1: 2}),
    ),
)
def test_both_sides_agree(annotation: Any, value: Any) -> None:
    """What checking takes, the worker takes, and what it refuses, the worker refuses or JSON does."""
    arguments = takes(annotation)
    verdicts = []
    for attempt in (lambda: check(arguments, [value], {}), lambda: arguments.fit([sent(value)], {})):
        try:
            attempt()
            verdicts.append(True)
        except (Misfit, MessageError, TypeError):
            verdicts.append(False)

    assert verdicts[0] == verdicts[1] or value == {1: 2}


def run(script: str) -> str:
    """Run a script in a Python of its own, and return what it printed."""
    return subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout


def test_defining_costs_no_import() -> None:
    """A module that defines tasks loads no msgspec; a call with annotations does, one without never."""
    script = (
        "import sys\n"
        "from leveret.consumers.tasks.arguments import Arguments\n"
        "def typed(it: int): pass\n"
        "def untyped(it, other=1): pass\n"
        "def anything(it: object): pass\n"
        "made = [Arguments(one, 'a') for one in (typed, untyped, anything)]\n"
        "for one in made[1:]: one.prepare(), one.fit([], {'it': 1}), one.fit([1], {})\n"
        "print('msgspec' in sys.modules)\n"
        "made[0].prepare()\n"
        "print('msgspec' in sys.modules, {'pydantic', 'attr', 'attrs'} & set(sys.modules))\n"
    )

    assert run(script) == "False\nTrue set()\n"


def test_nothing_but_msgspec_is_needed() -> None:
    """Where neither attrs nor pydantic is installed, everything else works."""
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('pydantic', 'attr', 'attrs')))\n"
        "from leveret.consumers.tasks.arguments import Arguments\n"
        "class Client: pass\n"
        "def function(it: set[int], client: Client = None): pass\n"
        "print(Arguments(function, 'a').fit([[1, 1]], {}))\n"
    )

    assert run(script) == "([{1}], {})\n"

"""Tasks with arguments of every kind, for what describes them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic

from leveret import Batch, WorkQueue, task
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import queues, registry


class Colour(enum.Enum):
    """Of text."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Of numbers."""

    LOW = 1
    HIGH = 2


@dataclass
class Line:
    """Within itself."""

    sku: str
    count: int = 1
    inner: Line | None = None


@attrs.define
class Place:
    """Of attrs."""

    street: str
    number: int = 1


class Size(TypedDict, total=False):
    """Where all may be missing."""

    width: int


class Point(NamedTuple):
    """An array."""

    x: int
    y: int = 0


class Mail(msgspec.Struct, tag="mail", forbid_unknown_fields=True):
    """Told apart by its tag."""

    to: str


class Fax(msgspec.Struct, tag="fax"):
    """The other."""

    number: int


class Customer(pydantic.BaseModel):
    """Of pydantic."""

    model_config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    name: Annotated[str, pydantic.Field(min_length=2)]
    home: Address | None = None


class Address(pydantic.BaseModel):
    """Within another."""

    city: str


class WithCode(pydantic.BaseModel):
    """What no schema can describe."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    code: Callable[[], int]


Few = Annotated[int, msgspec.Meta(ge=1, le=5)]
Short = Annotated[str, msgspec.Meta(min_length=2, max_length=3, pattern="^a")]
Zoned = Annotated[datetime, msgspec.Meta(tz=True)]

TYPES: dict[str, Any] = {
    "anything": Any,
    "boolean": bool,
    "integer": int,
    "number": float,
    "text": str,
    "data": bytes,
    "moment": datetime,
    "zoned": Zoned,
    "day": date,
    "clock": time,
    "duration": timedelta,
    "uuid": UUID,
    "decimal": Decimal,
    "colour": Colour,
    "level": Level,
    "literal": Literal["a", 1, None],
    "optional": int | None,
    "union": int | str | list[bool],
    "few": Few,
    "short": Short,
    "integers": list[int],
    "kinds": set[str],
    "pair": tuple[int, str],
    "row": tuple[int, ...],
    "by_name": dict[str, int],
    "by_number": dict[int, str],
    "by_float": dict[float, int],
    "by_day": dict[date, int],
    "by_colour": dict[Colour, int],
    "lines": list[Line],
    "place": Place,
    "size": Size,
    "point": Point,
    "tagged": Mail | Fax,
    "alone": Mail,
    "customer": Customer,
    "customers": list[Customer],
}
"""A task has one argument of each."""


def define() -> dict[str, AnyTask]:
    """Define the tasks anew; returns them by name."""
    registry.forget()
    queues.forget()
    queue = WorkQueue("described")

    def one(hint: Any) -> Callable[..., None]:
        def function(value: Any) -> None: ...

        function.__annotations__ = {"value": hint, "return": None}
        return function

    for name, hint in TYPES.items():
        task(f"described.{name}", queue=queue)(one(hint))

    @task("described.many", queue=queue)
    def many(first: int, second: str = "", *, third: bool, fourth: int = 4) -> None:
        """Take several arguments."""

    @task("described.by_place", queue=queue)
    def by_place(first: int, second: int = 2, /) -> None: ...

    @task("described.rest", queue=queue)
    def rest(first: str, *more: int, **others: bool) -> None: ...

    @task("described.nothing", queue=queue)
    def nothing() -> None: ...

    @task("described.batch", queue=queue, batch=Batch(5, within_seconds=1))
    def batch(calls: list[Line]) -> None: ...

    return {name: registry.get(name) for name in registry.names()}

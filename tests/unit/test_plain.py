"""Values that JSON has no word for: each has one form, and what would not arrive as it was is refused."""

from __future__ import annotations

import dataclasses
import enum
import json
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from leveret.topology.message.plain import check_keys, plain
from leveret.topology.settings import CHECKOUT

encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=plain).encode
FAR_EAST = timezone(timedelta(hours=5, minutes=45))


class Color(enum.Enum):
    """An enum that is no text itself, so that JSON does not know it."""

    RED = "red"
    ODD = (1, datetime(2026, 1, 2))


@dataclasses.dataclass
class Point:
    """A dataclass with anything in it."""

    x: Any
    _y: Any = 0


@attrs.define
class Line:
    """A class of attrs; the private field is one as well."""

    start: Any
    _end: Any = 0


class Box(msgspec.Struct, rename="camel", tag="box", omit_defaults=True):
    """A struct that is called otherwise in JSON."""

    wide_side: Any
    high: Any = msgspec.UNSET


class Row(msgspec.Struct, array_like=True, tag=True):
    """A struct that is an array in JSON."""

    first: Any
    second: Any = 2


class Loose(msgspec.Struct, array_like=True):
    """A struct that is an array, and nothing but its fields."""

    first: Any


class Model(pydantic.BaseModel):
    """A model with another name for a field, and a field that nobody can set."""

    at: Any = pydantic.Field(alias="when")

    @pydantic.computed_field
    def twice(self) -> int:
        """What is computed is no argument."""
        return 2


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass of pydantic is sent as any other."""

    age: int


@dataclasses.dataclass
class Unfinished:
    """A dataclass with a field that only its own code sets."""

    x: int
    later: int = dataclasses.field(init=False)


class Pair(NamedTuple):
    """A named tuple is a tuple."""

    first: Any
    second: Any


class Options(TypedDict):
    """A typed dictionary is a dictionary."""

    since: Any


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006+00:00"),
        (datetime(2026, 1, 2, tzinfo=FAR_EAST), "2026-01-02T00:00:00+05:45"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4, 5), "03:04:05"),
        (time(3, 4, tzinfo=FAR_EAST), "03:04:00+05:45"),
        (timedelta(days=1, microseconds=5), "PT86400.000005S"),
        (timedelta(microseconds=-1), "-PT0.000001S"),
        (timedelta(), "PT0.000000S"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+3"), "1E+3"),
        (Color.RED, "red"),
        (Color.ODD, [1, "2026-01-02T00:00:00"]),
        (b"\xff\x00", "/wA="),
        (bytearray(b"ab"), "YWI="),
        (memoryview(b"abcd")[::2], "YWM="),
        ({1}, [1]),
        (frozenset({("a", (2, frozenset()))}), [["a", [2, []]]]),
        (Point({1}, Point(date(2026, 1, 2))), {"x": [1], "_y": {"x": "2026-01-02", "_y": 0}}),
        (Point(msgspec.UNSET), {"_y": 0}),
        (Line(b"", Line(1)), {"start": "", "_end": {"start": 1, "_end": 0}}),
        (Box(Point(1)), {"type": "box", "wideSide": {"x": 1, "_y": 0}}),
        (Box(1, 2), {"type": "box", "wideSide": 1, "high": 2}),
        (Row({1}), ["Row", [1], 2]),
        (Loose({1}), [[1]]),
        (Model(when={date(2026, 1, 2)}), {"when": ["2026-01-02"]}),
        (Model(when=b"ab"), {"when": "ab"}),
        (Checked(5), {"age": 5}),
        (Unfinished(5), {"x": 5}),
        (pydantic.RootModel[set[int]]({1}), [1]),
        (Pair(1, {2}), [1, [2]]),
        (Options(since=date(2026, 1, 2)), {"since": "2026-01-02"}),
        (OrderedDict(a={1}), {"a": [1]}),
        (Point([10**4000, 2**64, -(2**70)]), {"x": [10**4000, 2**64, -(2**70)], "_y": 0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_value_has_its_form_in_json(value: Any, expected: Any) -> None:
    """What stands in the JSON is what any language can read, however deep it stands."""
    read = json.loads(encode({"inside": [value]}))

    assert read == {"inside": [expected]}


def test_tag_fields_have_the_name_they_were_given() -> None:
    """A struct says which it is, in the field and with the word that its class asks for."""
    kind = msgspec.defstruct("Shape", [("side", int)], tag_field="kind", tag=7)

    assert json.loads(encode(kind(1))) == {"kind": 7, "side": 1}


@pytest.mark.parametrize(
    "value", [object(), 1j, Color, Point, len, range(3), iter([]), sys], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("within", [lambda value: value, Point, Line, Box])
def test_anything_else_is_refused_by_its_type(within: Any, value: Any) -> None:
    """What has no form, a class itself included, is refused with the name of its type."""
    kind = type(value)
    with pytest.raises(TypeError, match=f"JSON has no word for a value of type {kind.__module__}.{kind.__qualname__}"):
        encode(within(value))


@pytest.mark.parametrize("within", [Point, Line, Box, Row, lambda value: Model(when=value)])
@pytest.mark.parametrize("key", [1, None, True, 1.5, date(2026, 1, 2), Color.RED])
def test_keys_that_are_no_text_are_refused_everywhere(within: Any, key: Any) -> None:
    """Within any object, 1 and "1" do not fall together: the key is named."""
    with pytest.raises(TypeError, match=r"the key .*(1|None|True|1\.5|2026|RED).* of an object is not text"):
        encode(within([({"ok": ({key: 1},)},)]))


@pytest.mark.parametrize("within", [Point, Line, Box, Row, lambda value: Model(when=value)])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused_everywhere(within: Any, number: float) -> None:
    """No NaN and no infinity turns into null within an object."""
    with pytest.raises(ValueError, match=r"Out of range float|(nan|inf) is no number that JSON has"):
        encode(within({"a": [(number,)]}))


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_decimal_that_is_no_number_is_refused(number: str) -> None:
    """What a float may not be, a Decimal may not be either."""
    with pytest.raises(ValueError, match=f"^{number} is no number that JSON has"):
        encode(Point(Decimal(number)))


@pytest.mark.parametrize("within", [Point, Line, Box, Row, lambda value: Model(when=value)])
def test_half_characters_are_refused_everywhere(within: Any) -> None:
    """Half a character gets to the encoder, where writing it as UTF-8 fails."""
    with pytest.raises(ValueError, match="surrogates"):
        encode(within("\ud800")).encode()


def test_a_cycle_is_an_error_and_no_endless_loop() -> None:
    """An object within itself is refused as a list within itself is."""
    point = Point(1)
    point.x = [point]

    with pytest.raises(ValueError, match="Circular"):
        encode(point)


def test_a_model_is_not_walked_for_keys_that_are_text() -> None:
    """Models, and models in models, are sent with their text keys as they are."""
    inner = Model(when={"a": [1.5, {"b": (2,)}]})

    assert json.loads(encode(Model(when=inner))) == {"when": {"when": {"a": [1.5, {"b": [2]}]}}}


@pytest.mark.parametrize("value", [{"a": [{"b": 1}], "c": ({},)}, [], "text", 5])
def test_text_keys_pass(value: Any) -> None:
    """What has text for keys, or none, is nothing to refuse."""
    check_keys(value)


def test_nothing_is_imported_to_send_values_of_pythons_own() -> None:
    """Producers who send dates, bytes or dataclasses pay for no library, whether or not it is installed."""
    script = (
        "import sys, datetime, dataclasses\n"
        "from leveret.topology.message.plain import plain\n"
        "Point = dataclasses.make_dataclass('Point', ['x'])\n"
        "print(plain(datetime.date(2026, 1, 2)), plain(Point(1)), plain(b''))\n"
        "print({'msgspec', 'pydantic', 'attrs', 'attr'} & set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)

    assert ran.stdout == "2026-01-02 {'x': 1} \nset()\n"

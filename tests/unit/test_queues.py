"""Work queues: what may be one, which topics it takes, and what the program knows of."""

from __future__ import annotations

from typing import Any

import pytest

from leveret.topology import queues
from leveret.topology.errors import TaskModuleError
from leveret.topology.queues import WorkQueue


@pytest.fixture(autouse=True)
def no_known_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests know no queues but their own."""
    monkeypatch.setattr(queues, "_known", {})


def test_a_queue_has_sensible_defaults() -> None:
    """A queue that is only named takes the tasks named after it, four retries, and no fanout."""
    mail = WorkQueue("mail")

    assert mail.topics == ("mail.#",)
    assert mail.retry_delays == (5, 30, 120, 600)
    assert mail.attempts == 5
    assert not mail.fanout


def test_lists_become_tuples() -> None:
    """A queue stays frozen although its maker keeps the lists it was made from."""
    topics: Any = ["mail.#"]
    delays: Any = [1, 2]
    mail = WorkQueue("mail", topics=topics, retry_delays=delays)
    topics.append("spam.#")
    delays.append(3)

    assert (mail.topics, mail.retry_delays) == (("mail.#",), (1, 2))


@pytest.mark.parametrize(
    "name",
    ["words", "a", "_", "0", "A-Z_0.9:x", "x" * 120, "amqp", "tasks", "dlq", "retry", "retry.1", "failed.first"],
)
def test_a_good_name_is_taken(name: str) -> None:
    """Letters, digits and . _ : - up to 120 make a name, and near misses of reserved ones are free."""

    assert WorkQueue(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".words",
        "-words",
        "two words",
        "wörds",
        "words\n",
        "words@2",
        "words#",
        "x" * 121,
        "amq.words",
        "tasks.words",
        "words.dlq",
        "words.failed",
        "words.retry",
        "words.retry.1.after.5s",
        None,
        5,
        b"words",
    ],
)
def test_a_bad_name_is_refused(name: Any) -> None:
    """A name with other characters, or one that derived objects have, is refused with the rule."""
    with pytest.raises(TaskModuleError, match="cannot name a work queue: use up to 120 letters"):
        WorkQueue(name)

    assert queues.known() == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"topics": "mail.#"}, "are tuples"),
        ({"retry_delays": 5}, "are tuples"),
        ({"retry_delays": "5"}, "are tuples"),
        ({"topics": None}, "tuples"),
        ({"retry_delays": None}, "tuples"),
        ({"topics": ("",)}, "no binding key"),
        ({"topics": (5,)}, "no binding key"),
        ({"topics": ("é" * 128,)}, "no binding key"),
        ({"topics": ("#.a.#.b.#",)}, "no binding key"),
        ({"topics": ("\ud800.#",)}, "no binding key"),
        ({"retry_delays": ("5",)}, "no number of seconds"),
        ({"retry_delays": (True,)}, "no number of seconds"),
        ({"retry_delays": (0,)}, "out of range"),
        ({"retry_delays": (-1,)}, "out of range"),
        ({"retry_delays": (0.0001,)}, "out of range"),
        ({"retry_delays": (4_000_001,)}, "out of range"),
        ({"retry_delays": (float("nan"),)}, "out of range"),
        ({"retry_delays": (float("inf"),)}, "out of range"),
        ({"retry_delays": tuple(range(1, 101))}, "too many retry delays"),
    ],
)
def test_a_bad_value_is_refused(options: dict[str, Any], reason: str) -> None:
    """Topics and delays that the broker could not hold are refused by the queue's name."""
    with pytest.raises(TaskModuleError, match=f"queue 'mail': .*{reason}"):
        WorkQueue("mail", **options)

    assert queues.known() == ()


def test_the_same_queue_may_be_defined_again() -> None:
    """A module that is imported by two names does no harm."""
    WorkQueue("mail", topics=("mail.#",), retry_delays=(1, 2))
    again = WorkQueue("mail", retry_delays=(1.0, 2.0))

    assert queues.known() == (again,)


@pytest.mark.parametrize("options", [{"topics": ("post.#",)}, {"retry_delays": (1,)}, {"fanout": True}])
def test_another_queue_of_the_same_name_is_a_clash(options: dict[str, Any]) -> None:
    """Two different queues of one name are refused, and the first stays."""
    first = WorkQueue("mail")
    with pytest.raises(TaskModuleError, match=r"'mail' is defined twice, and differently: .*; keep one and import it"):
        WorkQueue("mail", **options)

    assert queues.known() == (first,)


def test_known_queues_are_sorted_and_found_by_name() -> None:
    """The program can list its queues and find each."""
    words, mail = WorkQueue("words"), WorkQueue("mail")

    assert queues.known() == (mail, words)
    assert queues.find("words") is words


def test_an_unknown_queue_is_named_with_a_hint() -> None:
    """Looking for a queue that is not there names the nearest one, or all, or says that there is none."""
    with pytest.raises(TaskModuleError, match="no loaded module defines a queue 'words'; there are: none"):
        queues.find("words")
    WorkQueue("words")
    WorkQueue("mail")

    with pytest.raises(TaskModuleError, match="did you mean 'words'"):
        queues.find("wrods")
    with pytest.raises(TaskModuleError, match="there are: mail, words"):
        queues.find("zzz")


def test_forget_empties_the_list() -> None:
    """After forgetting, another queue may have the name."""
    WorkQueue("mail")
    queues.forget()

    assert queues.known() == ()
    assert WorkQueue("mail", fanout=True).fanout


def test_a_queue_takes_a_topic_if_any_of_its_own_matches() -> None:
    """One matching topic of several is enough."""
    mail = WorkQueue("mail", topics=("mail.#", "*.urgent"))

    assert [mail.takes_topic(key) for key in ("mail.send", "fax.urgent", "fax.send")] == [True, True, False]


def test_the_queues_of_its_levels() -> None:
    """Messages of a queue with priorities wait in three, those of any other in its own."""
    assert WorkQueue("words").waits_in == ("words",)
    assert WorkQueue("mail", priorities=True).waits_in == ("mail.high", "mail", "mail.low")


@pytest.mark.parametrize("priorities", [None, 1, "yes", ("high",)])
def test_priorities_are_there_or_not(priorities: Any) -> None:
    """Anything but True and False is refused."""
    with pytest.raises(TaskModuleError, match=r"queue 'mail': priorities is .*; it is True or False"):
        WorkQueue("mail", priorities=priorities)


@pytest.mark.parametrize("name", ["mail.high", "mail.low", "mail.in"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_queue_that_is_named_as_a_level_of_another_is_refused(name: str, is_first: bool) -> None:
    """Whichever comes first; beside a queue without priorities it may be."""
    order = [{"name": name}, {"name": "mail", "priorities": True}]
    first, second = order if is_first else reversed(order)
    made = WorkQueue(**first)  # type: ignore[arg-type]

    with pytest.raises(TaskModuleError, match=f"queue '{name}' cannot be beside queue 'mail', which has priorities: "):
        WorkQueue(**second)  # type: ignore[arg-type]
    assert queues.known() == (made,)
    queues.forget()
    assert (WorkQueue("mail"), WorkQueue(name)) == queues.known()


def test_a_level_is_found_as_its_queue() -> None:
    """Where it is one; a queue of that name is itself."""
    mail, orders = WorkQueue("mail", priorities=True), WorkQueue("orders.high")

    assert (queues.find("mail.high"), queues.find("mail.low"), queues.find("mail.in")) == (mail, mail, mail)
    assert queues.find("orders.high") is orders
    with pytest.raises(TaskModuleError, match=r"no loaded module defines a queue 'mail\.normal'"):
        queues.find("mail.normal")

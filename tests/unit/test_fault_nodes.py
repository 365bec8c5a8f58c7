"""Nodes that an external command runs, with a command that only writes down what it was told."""

from pathlib import Path

import pytest

from leveret.topology.errors import NodeError
from tests.faults import nodes
from tests.faults.__main__ import _groups
from tests.faults.nodes import CommandNodes, at_vhost
from tests.faults.rows import ROWS

_COMMAND = """#!/bin/sh
echo "$@" >>"$0.told"
case $1$2 in
start*) echo "amqp://guest:guest@127.0.0.1:1000$2/ http://127.0.0.1:2000$2/" ;;
ctl8) echo "no such node" >&2; exit 1 ;;
ctl*) echo "said by $2" ;;
esac
"""


@pytest.fixture
def command(tmp_path: Path) -> Path:
    made = tmp_path / "command"
    made.write_text(_COMMAND)
    made.chmod(0o755)
    return made


def told(command: Path) -> list[str]:
    return command.with_name("command.told").read_text().splitlines()


def test_numbers_and_urls(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's first node is the one the command line names; the URLs are what the command prints."""
    monkeypatch.setattr(nodes, "answers", lambda _url: True)
    made = CommandNodes([str(command)], first=6)
    made.start(2)

    assert told(command) == ["start 7"]
    assert made.amqp_url(2) == "amqp://guest:guest@127.0.0.1:10007/"
    assert made.management_url(2) == "http://127.0.0.1:20007/"


def test_stop_and_kill(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending a node returns once it answers no more."""
    monkeypatch.setattr(nodes, "answers", lambda _url: told(command)[-1].startswith("start"))
    made = CommandNodes([str(command)])
    made.start(1)
    made.stop(1)
    made.start(1)
    made.kill(1)
    made.close()

    assert told(command) == ["start 1", "stop 1", "start 1", "kill 1"]


def test_ctl(command: Path) -> None:
    """What rabbitmqctl prints is returned; what it says when it fails is raised."""
    made = CommandNodes([str(command)], first=6)

    assert made.ctl(1, "cluster_status") == "said by 6\n"
    with pytest.raises(NodeError, match="no such node"):
        made.ctl(3, "cluster_status")


def test_at_vhost() -> None:
    """A node's URL for a virtual host whose name has a slash."""
    assert at_vhost("amqp://guest:guest@h:5672/", "a/b") == "amqp://guest:guest@h:5672/a%2Fb"


def test_every_row_runs_once_and_those_for_themselves_on_two_nodes() -> None:
    """They take longest; and a cluster's nodes take the numbers that follow, so it stands last."""
    groups = _groups(ROWS)
    alone = [len(group) for group in groups if group[0].is_alone and not group[0].is_clustered]

    assert sorted(row.number for group in groups for row in group) == sorted(row.number for row in ROWS)
    assert len(alone) == 2
    assert max(alone) - min(alone) <= 1
    assert all(row.is_clustered for row in groups[-1])

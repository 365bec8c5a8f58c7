"""Which tests the workers of pytest-xdist run in one process, in their order, because a fixture of theirs is slow."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

_TOGETHER = {
    "a TLS listener": ("test_tls.py::",),
    "nodes of the matrix": ("test_nodes.py::",),
    "an environment with the wheel": ("test_installed.py::",),
    "a running node": tuple(
        f"test_node.py::test_{name}"
        for name in ("start_again", "name", "loopback_only", "only_its_user_can_log_in", "stop_and_start", "kill")
    ),
    "a node for those marked alone": (
        "test_doctor.py::test_an_alarm_is_found",
        "test_following.py::test_in_an_alarm_",
        "test_info.py::test_in_an_alarm_",
        "test_publisher_faults.py::test_broker_restarts_amid_many",
        "test_publisher_faults.py::test_memory_alarm",
        "test_schedules.py::test_an_alarm_is_waited_for",
        "test_worker.py::test_broker_restart_costs_no_task",
        "test_worker_links.py::test_what_an_alarm_blocks_is_kept",
    ),
}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """What belongs together begins first, for it takes longest; all else goes to whoever is free.

    pytest-xdist 3.8 has the same as --dist loadgroup, which has no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """Say what a test belongs to: one of the above, or nothing but itself."""
    name = nodeid.rpartition("tests/broker/")[2]
    return next((why for why, names in _TOGETHER.items() if name.startswith(names)), nodeid)

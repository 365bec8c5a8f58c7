"""The judge: lost = confirmed − executed − parked, from the logs and what lay in the dead-letter queue."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.records import CONFIRMED, FINISHED, STARTED, UNKNOWN, Execution, Submission

MOST_STARTS = 40
"""A task that began more often than this is in a hot loop: a worker buries it at the 21st delivery of an attempt."""
_SETTLING_SECONDS = 0.3
"""How long the acknowledgement of a finished task may be under way on a busy machine."""


class Blow(NamedTuple):
    """What struck processes at once: they were killed, or lost what they hold."""

    seconds: float
    """Just before the blow."""
    pids: Collection[int]
    until: float = float("inf")
    """From when on those that are still alive hold what they begin."""


@dataclass
class Account:
    """Everything known about the messages of one run."""

    submissions: Sequence[Submission]
    executions: Sequence[Execution]
    parked: Mapping[str, int]
    """How many copies of each id lay in the dead-letter queue."""
    excused: Collection[str] = field(default_factory=frozenset)
    """Ids that the fault itself removes, as deleting a queue does."""

    @property
    def confirmed(self) -> set[str]:
        """Ids whose submit returned."""
        return {one.id for one in self.submissions if one.what == CONFIRMED}

    @property
    def unknown(self) -> set[str]:
        """Ids whose submit only ever raised: they may be there or not."""
        return {one.id for one in self.submissions if one.what == UNKNOWN} - self.confirmed

    @property
    def finished(self) -> Counter[str]:
        """How often each id was executed to its end."""
        return Counter(one.id for one in self.executions if one.what == FINISHED)

    @property
    def starts(self) -> Counter[str]:
        """How often an attempt of each id began."""
        return Counter(one.id for one in self.executions if one.what == STARTED)

    @property
    def missing(self) -> set[str]:
        """Confirmed ids that were neither executed nor parked (yet); at the end these are lost."""
        return self.confirmed - set(self.finished) - set(self.parked) - set(self.excused)

    @property
    def duplicates(self) -> int:
        """How many more ends there were than messages; an end is a finished execution or a copy in the DLQ."""
        return sum(count - 1 for count in (self.finished + Counter(self.parked)).values())

    @property
    def hot(self) -> list[str]:
        """Ids that began absurdly often."""
        return [task_id for task_id, count in self.starts.items() if count > MOST_STARTS]

    @property
    def attempts(self) -> Counter[str]:
        """The number of the last attempt of each id that began."""
        last: Counter[str] = Counter()
        for one in self.executions:
            last[one.id] = max(last[one.id], one.attempt)
        return last

    @property
    def extra_runs(self) -> Counter[str]:
        """How often each id began beyond once for each of its attempts, of those that did."""
        return self.starts - Counter(task_id for task_id, _ in {(one.id, one.attempt) for one in self.executions})

    def cut_off(self, blows: Iterable[Blow]) -> Counter[str]:
        """Return how many of these blows hit each id: it had begun in such a process, or ended just before."""
        attempts = self._attempts()
        return Counter(
            task_id
            for blow in blows
            for task_id in {
                begun.id
                for begun, end in attempts
                if begun.pid in blow.pids
                and begun.seconds <= blow.until
                and (end is None or end >= blow.seconds - _SETTLING_SECONDS)
            }
        )

    def in_flight(self, moment: float) -> set[str]:
        """Return the ids that were begun at a moment, or had ended so shortly before that it may not be settled."""
        return {
            begun.id
            for begun, end in self._attempts()
            if begun.seconds <= moment and (end is None or end >= moment - _SETTLING_SECONDS)
        }

    def running(self, moment: float = float("inf")) -> list[Execution]:
        """Return the attempts that had begun at a moment and not finished."""
        return [begun for begun, end in self._attempts() if begun.seconds <= moment and (end is None or end > moment)]

    def recovery_seconds(self, began: float, ended: float, hit: Iterable[str] | None = None) -> float | None:
        """Return how long after the end of the fault the first execution finished that proves that work goes on.

        That is one that also began after the fault, of a task that was begun and not finished when the fault began,
        or that was confirmed after it ended. A row that knows exactly what it hit names that instead. None when
        there was no such execution.
        """
        if hit is None:
            later = {one.id for one in self.submissions if one.seconds > ended}
            proofs = {one.id for one in self.running(began)} | later
        else:
            proofs = set(hit)
        begun: set[tuple[str, int]] = set()
        for one in self.executions:
            if one.what == STARTED and one.seconds > ended:
                begun.add((one.id, one.pid))
            elif one.what == FINISHED and one.id in proofs and (one.id, one.pid) in begun:
                return one.seconds - ended
        return None

    def _attempts(self) -> list[tuple[Execution, float | None]]:
        """Return each attempt that began, with when it ended; None for one that runs, or was killed."""
        attempts: list[tuple[Execution, float | None]] = []
        open_attempts: defaultdict[tuple[str, int, int], deque[int]] = defaultdict(deque)  # positions of what runs
        for one in self.executions:
            same = open_attempts[one.id, one.attempt, one.pid]
            if one.what == STARTED:
                same.append(len(attempts))
                attempts.append((one, None))
            else:
                position = same.popleft()
                attempts[position] = (attempts[position][0], one.seconds)
        return attempts

"""leveret and its peers side by side: `python -m benchmarks`. See --help and README.md in this folder."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import environment, faults, machine, measure, report
from benchmarks.bench import QUICK, Bench, Sizes
from benchmarks.books import books_in
from benchmarks.brokers import RabbitMQ, Redis
from benchmarks.delayed import DELAYED
from benchmarks.faults import FAULTS
from benchmarks.following import FOLLOWING
from benchmarks.processes import Failed, stop_all
from benchmarks.report import Results
from benchmarks.systems import System
from benchmarks.waiting import WAITING
from benchmarks.with_results import ALL
from leveret import LeveretError, Settings
from leveret.topology import settings
from leveret.topology.link import default_broker
from tests.faults.brokers import nodes_of
from tests.faults.nodes import Nodes

_ROUNDS = 3
_LONGEST_ERROR = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _run(options)
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except (Failed, LeveretError) as error:
        say(f"benchmarks: {error}")
        return 1
    finally:
        stop_all()


def say(line: str) -> None:
    """Tell on stderr; the report goes to stdout."""
    print(line, file=sys.stderr, flush=True)


def _run(options: argparse.Namespace) -> int:
    systems = [system for system in ALL if _wanted(system.name, options.only, [system.name for system in ALL])]
    names = [name for name in measure.NAMES if _wanted(name, options.only, measure.NAMES)]
    if options.quick:
        names = [name for name in names if name not in measure.SLOW or _simple(name) in map(_simple, options.only)]
    systems = [system for system in systems if system.takes_part & set(names)]
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name, _broker(options.broker) as (rabbitmq, nodes):
        rabbitmq.versions()  # an error here ends the run before anything is installed
        folder = Path(name)
        if nodes is None and "kill-broker" in names:
            names.remove("kill-broker")
            say("kill-broker is left out: it needs --broker private, or a command that can kill its broker")
        systems, redis = _prepare(systems, results, folder)
        sizes = QUICK if options.quick else Sizes()
        bench = Bench(rabbitmq, redis, folder, sizes, books_in(options.books, folder), nodes)
        about: dict[str, Any] = machine.describe(rabbitmq, redis)
        about |= {"quick": options.quick, "rounds": rounds, "stopped": True}
        about["books"] = [book.name for book in bench.books]
        try:
            for round_number in range(rounds):
                order = systems if round_number % 2 == 0 else systems[::-1]
                for group in _groups(names, together=options.quick):
                    for system in order:
                        if mine := [name for name in group if name in system.takes_part]:
                            took = f"{time.monotonic() - _BEGAN:5.0f} s"
                            say(f"{took}  round {round_number + 1}/{rounds}  {', '.join(mine)}: {system.name}")
                            _measure(bench, system, mine, results)
            about["stopped"] = False
        finally:
            about["seconds"] = round(time.monotonic() - _BEGAN)
            print(report.write(results, [s for s in ALL if s in systems], about, options.out))
            if left := rabbitmq.delete_vhosts():
                say(f"could not delete the virtual hosts {', '.join(left)}")
    failed = bool(results.skipped or results.errors)
    return 1 if failed else 0


@contextmanager
def _broker(which: str | None) -> Iterator[tuple[RabbitMQ, Nodes | None]]:
    """Yield the broker that all commands use, or, if one is named, one of our own that may be killed."""
    if which is None:
        yield RabbitMQ(default_broker.resolve(settings.load())), None
        return
    nodes = nodes_of(which)
    try:
        nodes.start(1)
        own = Settings(amqp_url=nodes.amqp_url(1), management_url=nodes.management_url(1))
        yield RabbitMQ(own), nodes
    finally:
        nodes.close()


def _wanted(name: str, only: Sequence[str], all_names: Sequence[str]) -> bool:
    """Whether a system or measurement is asked for; where none of its kind is named, all are."""
    named = [one for one in only if _simple(one) in map(_simple, all_names)]
    return not named or _simple(name) in map(_simple, named)


def _simple(name: str) -> str:
    return "".join(filter(str.isalnum, name.partition(" (")[0].lower()))


def _prepare(systems: Sequence[System], results: Results, folder: Path) -> tuple[list[System], Redis | None]:
    """Install the peers and start Redis; what does not work is left out, and said."""
    ready: list[System] = []
    redis: Redis | None = None
    for system in systems:
        try:
            if system.requirements:
                environment.make(say)
                environment.install(system.requirements, say)
            if system.needs_redis() and redis is None:
                redis = Redis(folder)
            ready.append(system)
        except (environment.CannotInstall, Failed, OSError) as error:
            results.skipped[system.name] = str(error)[:_LONGEST_ERROR]
            say(f"leaving out {system.name}: {error}")
    return ready, redis


def _groups(names: Sequence[str], together: bool) -> list[list[str]]:
    """Return what shares a running worker: in a quick run all that can, else each has a fresh one."""
    shared = [name for name in names if name in measure.ON_A_RUNNING_WORKER]
    alone = [[name] for name in names if name not in shared]
    return [shared, *alone] if together and shared else [[name] for name in names]


def _measure(bench: Bench, system: System, names: Sequence[str], results: Results) -> None:
    with _caught(system, names, results):
        if names == ["drain"]:
            results.add(system.name, measure.drain(bench, system))
        elif names == ["follow"]:
            results.add(system.name, measure.follow(bench, system))
        elif names == ["backlog"]:
            results.add(system.name, measure.backlog(bench, system))
        elif names == ["submit"]:
            with bench.cell(system) as cell:
                results.add(system.name, measure.submit(cell))
        elif names[0] in FAULTS:
            with bench.cell(system) as cell:
                cell.start_warm_worker()
                results.add(system.name, faults.measure(cell, FAULTS[names[0]]))
        elif alone := {**FOLLOWING, **WAITING, **DELAYED}.get(names[0]):
            with bench.cell(system) as cell:
                results.add(system.name, alone(cell))
        elif names == ["mix"]:
            with bench.cell(system.one_task_a_process()) as cell:
                cell.start_warm_worker()
                results.add(system.name, measure.mix(cell))
        elif system.app == "pool":
            with bench.cell(system) as cell:
                results.add(system.name, measure.books(cell))
        else:
            _on_a_running_worker(bench, system, names, results)


def _on_a_running_worker(bench: Bench, system: System, names: Sequence[str], results: Results) -> None:
    with bench.cell(system) as cell:
        worker = cell.start_warm_worker()
        for name in names:
            with _caught(system, [name], results):
                results.add(system.name, measure.ON_A_RUNNING_WORKER[name](cell, worker))


@contextmanager
def _caught(system: System, names: Sequence[str], results: Results) -> Iterator[None]:
    """One system's failure is a cell of the report, and no reason to stop."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        for name in names:
            results.fail(system.name, name, text[:_LONGEST_ERROR])
        say(f"  failed: {text}")


def _parser() -> argparse.ArgumentParser:
    systems = ", ".join(_simple(system.name) for system in ALL)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Run leveret and its peers side by side on one broker and write results.md, results.svg and "
        "results.json. The peers are installed into .venv-bench when first needed.",
        epilog=f"measurements: {', '.join(measure.NAMES)}\nsystems: {systems}\n\nexamples:\n"
        "  python -m benchmarks --quick\n"
        "  python -m benchmarks --only drain latency leveret celery\n\n"
        "exit status: 0 all measured; 1 something failed or was left out, the report says what; 2 wrong usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = {_simple(name) for name in (*(system.name for system in ALL), *measure.NAMES)}

    def name(text: str) -> str:
        if _simple(text) not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a measurement nor a system")
        return text

    check: Callable[[str], str] = name
    here = Path(__file__).parent
    parser.add_argument("--quick", action="store_true", help="little work, one round, in under two minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how often (default: {_ROUNDS}, with --quick 1)")
    parser.add_argument("--only", nargs="+", default=[], type=check, metavar="NAME", help="measurements or systems")
    parser.add_argument("--out", type=Path, default=here, metavar="DIR", help="for the results (default: benchmarks)")
    parser.add_argument(
        "--broker",
        metavar="WHICH",
        help="private: a node of the installed rabbitmq-server; or a command with the verbs start, stop, kill and ctl "
        "N. Such a broker can be killed. Default: the one that all commands use",
    )
    parser.add_argument("--books", type=Path, metavar="DIR", help="folder with four books as *.txt to count")
    return parser


_BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())

"""Writes docs/pictures/: what commands show on a terminal of 80 columns, on a broker that has had a bad night.

python docs/pictures.py [FOLDER]

It takes the broker that every command takes, with an account that may make a virtual host there, named shop.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.brokers import RabbitMQ
from leveret.producers.following.cancelling import command_now
from leveret.topology import settings
from leveret.topology.access.management import Management
from leveret.topology.link.default_broker import resolve

_CHECKOUT = Path(__file__).resolve().parent.parent
_COLUMNS, _WIDTH, _HEIGHT, _EDGE, _BAR = 80, 7.83, 18, 16, 30
_STYLE = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #e6edf3;
  white-space: pre } rect { fill: #161b22; stroke: #30363d } circle { fill: #484f58 }
.said { font-weight: 600 } .c31 { fill: #ff7b72 } .c32 { fill: #7ee787 } .c33 { fill: #e3b341 } .c36 { fill: #79c0ff }
.c2, .dollar { fill: #8d96a0 } .c1 { font-weight: 600 }
"""
_CODES = re.compile(r"\x1b\[([\d;]*)([A-Za-z])")
_SHOP = """
import time
from leveret import RetryLater, WorkQueue, progress, task

mail = WorkQueue("mail", retry_delays=())
reports = WorkQueue("reports")
stock = WorkQueue("stock", retry_delays=(30, 300))

@task("mail.send", queue=mail)
def send(to: str) -> None:
    if to.startswith("a"):
        raise ConnectionError("smtp.example.org:587 does not answer")
    if to.startswith("b"):
        raise KeyError("tariff")
    raise ValueError(f"{to!r} is no address")

@task("reports.build", queue=reports)
def build(month: str) -> None:
    for page in range(1000):
        progress(page + 1, 1000, f"page {page + 1}")
        time.sleep(1.5)

@task("stock.count", queue=stock)
def count(shelf: int) -> None:
    time.sleep(0.1)
"""
_FORMER = "retry_delays=(30, 300)", "retry_delays=(60,), topics=('stock.#', 'shelves.#')"
"""The shop's code as it is declared, before it became what the plan compares."""
_PLACE = "rabbit.example/shop"
_SETTLES_SECONDS = 12.0
PICTURES = {
    "dead-top": "leveret dead top mail",
    "dead-show": "leveret dead show {first} mail",
    "doctor": "leveret doctor -a shop",
    "info": "leveret info -a shop",
    "plan": "leveret plan -a shop",
}


def main(target: Path) -> int:
    """Set the scene, and take each picture."""
    configured = resolve(settings.load())
    target.mkdir(exist_ok=True)
    if Management(configured).call("GET", "vhosts", "shop"):
        sys.exit("there is a virtual host 'shop' already, which this would take for its own")
    with RabbitMQ(configured).vhost("shop") as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEVERET_", "NO_COLOR"))}
        told = {**kept, "PYTHONPATH": f"{_CHECKOUT}:{name}", "AMQP_URL": url, "TERM": "xterm"}
        told["MANAGEMENT_URL"] = configured.management_url or ""
        place = url.rpartition("@")[2]
        others = [(place, _PLACE.ljust(len(place))), (name, "/app"), (command_now("").by, "ops@desk")]
        with _bad_night(folder, told) as first:
            for picture, line in PICTURES.items():
                command = line.format(first=first)
                shown = run_on_terminal([sys.executable, "-m", *command.split()], folder, told)
                for ours, theirs in others:
                    shown = shown.replace(ours, theirs)
                (target / f"{picture}.svg").write_text(draw(command, shown), encoding="utf-8")
    return 0


@contextlib.contextmanager
def _bad_night(folder: Path, told: Mapping[str, str]) -> Iterator[str]:
    """Bury 30 of three kinds, keep a process busy, and let a backlog wait for nobody; yields the id of a dead one."""
    shop = folder / "shop.py"
    shop.write_text(_SHOP.replace(*_FORMER), encoding="utf-8")

    def leveret(*words: str) -> str:
        command = [sys.executable, "-m", "leveret", *words]
        return subprocess.run(
            command, cwd=folder, env=told, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        ).stdout

    leveret("declare", "-a", "shop")
    shop.write_text(_SHOP, encoding="utf-8")
    addresses = [
        f"{kind}{number}@example.org" for kind, count in (("a", 18), ("b", 9), ("c", 3)) for number in range(count)
    ]
    ids = [leveret("submit", "mail.send", f"to={address}", "-a", "shop").split()[0] for address in addresses[:1]]
    for address in addresses[1:]:
        leveret("submit", "mail.send", f"to={address}", "-a", "shop")
    leveret("run", "mail", "-a", "shop", "--until-empty", "--log-level", "error")
    for shelf in range(25):
        leveret("submit", "stock.count", f"shelf={shelf}", "-a", "shop")
    for month in ("2026-09", "2026-10", "2026-11"):
        leveret("submit", "reports.build", f"month={month}", "-a", "shop")
    leveret("pause", "mail", "--reason", "smtp is down")
    command = [sys.executable, "-m", "leveret", "run", "mail", "reports", "-a", "shop", "--processes", "2"]
    worker = subprocess.Popen(command, cwd=folder, env=told, stderr=subprocess.DEVNULL)
    try:
        time.sleep(_SETTLES_SECONDS)  # workers tell what runs, and the broker's statistics follow
        yield ids[0]
    finally:
        worker.kill()
        worker.wait()


def run_on_terminal(command: list[str], folder: Path, told: Mapping[str, str]) -> str:
    """Run a command on a terminal, and return all that it wrote there."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 60, _COLUMNS, 0, 0))
    process = subprocess.Popen(command, cwd=folder, env=told, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = bytearray()
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as screen:  # a terminal ends with EIO
        while piece := screen.read(65536):
            shown += piece
    process.wait()
    return shown.decode().replace("\r\n", "\n").rstrip("\n")


def draw(command: str, shown: str) -> str:
    """Return a picture of a terminal that shows this below the command."""
    lines = [f'<tspan class="dollar">$ </tspan><tspan class="said">{escape(command)}</tspan>']
    lines += map(_marked_up, shown.split("\n"))
    width, height = _COLUMNS * _WIDTH + 2 * _EDGE, len(lines) * _HEIGHT + _BAR + _EDGE
    text = "".join(
        f'<text x="{_EDGE}" y="{_BAR + (number + 1) * _HEIGHT - 4}" xml:space="preserve">{line}</text>\n'
        for number, line in enumerate(lines)
    )
    dots = "".join(f'<circle cx="{_EDGE + 4 + at * 16}" cy="15" r="5"/>' for at in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" role="img">\n<title>{escape(command)}</title>\n<style>{_STYLE}</style>\n'
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>{dots}\n{text}</svg>\n'
    )


def _marked_up(line: str) -> str:
    """Return a line with its colours as spans; other codes are left out."""
    drawn, at, classes = "", 0, ""
    for code in (*_CODES.finditer(line), None):
        if part := escape(line[at : code.start() if code else None]):
            drawn += f'<tspan class="{classes}">{part}</tspan>' if classes else part
        if code:
            at = code.end()
            if code[2] == "m":
                classes = " ".join(f"c{number}" for number in code[1].split(";") if number not in ("", "0", "39"))
    return drawn


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else _CHECKOUT / "docs" / "pictures").resolve()))

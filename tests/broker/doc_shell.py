"""Running the shell lines of the documentation in a folder and a virtual host of a test's own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from leveret import Deployment
from leveret.command import VERBS
from leveret.command import leveret as tree
from leveret.producers.examples.samples import words
from leveret.topology.access.rights import ROLES
from leveret.topology.names import Route
from leveret.topology.settings import CHECKOUT
from tests.broker import doc_pages
from tests.broker.support import Vhost, warm
from tests.broker.warm import Forked

ALLOWED = {"docker", "kubectl", "systemctl", "journalctl", "make", ".venv/bin/python"}
"""What is looked at instead of run: it starts services, or these very tests."""
NOT_RUN = {"fetch": "asks other servers", "node": "starts and stops the broker of all tests", "demo": "is slow"}
"""Verbs whose options are checked, and that is all."""
ENDLESS = {"--watch"}
"""What keeps a verb until Ctrl-C: its options are checked, and that is all."""
DOORS = {"consumers.run": "run", **{f"producers.{verb}": verb for verb in ("submit", "redrive")}}
DOORS |= {f"topology.{verb}": verb for verb in ("declare", "users", "node")} | {"data.fetch": "fetch"}
_PATIENCE_SECONDS = 60
_SHELL_SIGNS = {*"<>|&;$*~"}
_ASSIGNMENT = re.compile(r"\w+=.*")


class Shell:
    """A folder with `my_app.py` of the README and the sample texts, where lines are run as a reader would."""

    def __init__(self, vhost: Vhost, folder: Path) -> None:
        self.vhost, self.folder = vhost, folder
        self._workers = contextlib.ExitStack()
        self.write("my_app.py", doc_pages.block("README.md", "my_app.py").text)
        shutil.copytree(CHECKOUT / "data", folder / "data")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("LEVERET_TASKS", "LEVERET_CONFIG")},
            "AMQP_URL": vhost.amqp_url,
            "MANAGEMENT_URL": vhost.broker.management_url,
            "DATA_DIR": str(folder / "data"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
        }

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line to its end, and see that it is content."""
        words = _plain_words(line)
        ended = warm().run(words, self.folder, self.environment) if words else self._in_bash(line)

        assert ended.returncode == 0, (line, ended.stdout, ended.stderr)
        return ended

    def _in_bash(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )

    @contextlib.contextmanager
    def working(self, line: str, says: str = "consuming") -> Iterator[Iterator[str]]:
        """Run a worker; yields the lines it logs once it `says` so. Afterwards it is told to stop, and does so."""
        worker = self._start(line)
        assert worker.stderr
        log = []
        late = threading.Timer(_PATIENCE_SECONDS, worker.kill)
        late.start()
        try:
            for said in worker.stderr:
                log.append(said)
                if says in said:
                    break

            assert says in "".join(log[-1:]), (line, log)
            yield iter(worker.stderr)
            worker.send_signal(signal.SIGTERM)

            log += worker.stderr  # until it has ended
            assert worker.wait(_PATIENCE_SECONDS) == 0, (line, log)
        finally:
            late.cancel()
            worker.kill()
            worker.wait()
            worker.stderr.close()

    def _start(self, line: str) -> subprocess.Popen[str] | Forked:
        if words := _plain_words(line):
            return warm().start(words, self.folder, self.environment, stderr=subprocess.PIPE)
        return subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """Stop what was started."""
        self._workers.close()

    def give(self, what: str) -> None:
        """Make what an example presupposes."""
        for one in what.split(" and "):
            self._give(one)

    def _give(self, what: str) -> None:
        if what == "a recorder":
            self._workers.enter_context(self.working("leveret recorder", "recording"))
        elif what == "schedules":
            self.write("leveret.toml", doc_pages.block("docs/schedules.md", "leveret.toml").text)
        elif what == "a scheduler":
            self._workers.enter_context(self.working("leveret schedule", "scheduling"))
        elif what == "declared":
            self.run("leveret declare -a my_app")
        elif what == "leveret.toml":
            self.write("leveret.toml", 'tasks = ["my_app"]\n')
        elif module := what.removeprefix("a worker of ") if what.startswith("a worker of ") else "":
            page = next(one for one in doc_pages.blocks("python") if one.file == f"{module}.py")
            self.write(f"{module}.py", page.text)
            self._workers.enter_context(self.working(f"leveret run -a {module}"))
        elif what == "the tests of docs/testing.md":
            for example in doc_pages.blocks("python"):
                if example.page == "docs/testing.md":
                    self.write(example.file, example.text)
        elif what == "jobs.jsonl":
            self.write("jobs.jsonl", '{"to": "a@example.org"}\n{"to": "b@example.org", "subject": "hi"}\n')
        elif what == "drakula.txt is dead":
            self.vhost.declare(words)
            self._bury("words", "words.count", "drakula", {"book": "drakula.txt"})
        elif what == "order-17 is dead":
            self.run("leveret declare -a my_app")
            self._bury("mail", "mail.send", "order-17", {"to": "a@example.org"})
        else:
            assert not what, f"nobody knows how to make {what!r}"

    def _bury(self, queue: str, task: str, task_id: str, kwargs: dict[str, str]) -> None:
        body = json.dumps({"task": task, "kwargs": kwargs}).encode()
        self.vhost.publish(Route.dead(queue), body, message_id=task_id, headers={"failure-type": "ConnectionError"})


def _plain_words(line: str) -> list[str]:
    """The words of a line for which no shell is needed, nor what Python does as it starts; else none."""
    words = shlex.split(line, comments=True)
    return words if words[0] in ("leveret", "python") and "-m" not in words and not _SHELL_SIGNS & {*line} else []


def words_of(line: str) -> list[str]:
    """The words of a line, without its comment and without what is set before the command."""
    found = shlex.split(line, comments=True)
    while found and _ASSIGNMENT.fullmatch(found[0]):
        found.pop(0)
    return found


def command_of(line: str) -> tuple[str, list[str]]:
    """The verb of a line that is a form of the command, and its arguments; an empty verb for any other line."""
    found = words_of(re.split(r" [<>|] ", line)[0])
    if found[:1] == ["leveret"]:
        return (found[1], found[2:]) if len(found) > 1 else ("", [])
    if found[:2] == ["python", "-m"] and found[2] in DOORS:
        return DOORS[found[2]], found[3:]
    return "", []


def check_options(verb: str, arguments: list[str]) -> None:
    """See that the command takes these arguments. Raises what click raises."""
    assert verb in VERBS, f"there is no leveret {verb}"
    if "--help" not in arguments:
        command = tree.get_command(click.Context(tree), verb)
        assert command
        command.make_context(verb, list(arguments))


def check_allowed(line: str) -> None:
    """See that what a line would start is there."""
    first, *rest = words_of(line)
    if first == "make":
        makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in rest if not _ASSIGNMENT.fullmatch(word)]

        assert [one for one in targets if not re.search(rf"^{re.escape(one)}:", makefile, re.MULTILINE)] == []
    elif first == "docker":
        services = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")

        assert [one for one in rest if re.fullmatch(r"rabbitmq\d*", one) and f"\n  {one}:" not in services] == []
        for profile in re.findall(r"--profile (\w+)", line):
            assert f'profiles: ["{profile}"]' in services
    elif first == "kubectl" or any(word.startswith("my-app") for word in rest):
        assert _is_deployed(rest), line
    elif first in ("systemctl", "journalctl"):
        assert any(one.file.endswith("/leveret-mail.service") for one in doc_pages.blocks("ini"))
        assert "leveret-mail" in rest
    else:
        files = [word for word in rest if word.startswith(("tests/", "benchmarks/"))]

        assert all((CHECKOUT / file).exists() for file in files), line


def _is_deployed(line: list[str]) -> bool:
    """Whether what is named of a deployment is in what `leveret deploy` writes."""
    named = [
        word.rpartition("/")[2].replace("@mail", "@").replace("-mail", "-words") for word in line if "my-app" in word
    ]
    made = Deployment("my-app", ["my_app"], [words], image="my-app", has_record=True)
    written = {name: text for target in ("systemd", "kubernetes") for name, text in made.files(target).items()}
    texts = "".join(written.values())
    return all(any(file.startswith(one) for file in written) or f'name: "{one}"' in texts for one in named)


def run_line(shell: Shell, line: str) -> None:
    """Do with a line of an example what a reader does with it, as far as tests may."""
    verb, arguments = command_of(line)
    first = words_of(line)[0]
    if verb:
        check_options(verb, arguments)
        line = re.sub(r"(--(?:metrics|health)) \S+", r"\1 127.0.0.1:0", line)  # that of the page may be taken here
        if verb == "run" and not {"--until-empty", "--help"} & {*arguments}:
            with shell.working(line.split(" #")[0]):
                pass
        elif verb == "recorder":
            with shell.working(line.split(" #")[0], "recording"):
                pass
        elif verb == "schedule" and arguments[:1] in ([], ["-a"]):
            with shell.working(line.split(" #")[0], "scheduling"):
                pass
        elif verb == "users":
            _make_users(shell, line)
        elif verb not in NOT_RUN and not ENDLESS & {*arguments}:
            shell.run(line)
    elif first in ALLOWED:
        check_allowed(line)
    elif first == "curl":
        _ask_management(shell, line)
    elif line.startswith("python docs/"):
        assert (CHECKOUT / words_of(line)[1]).exists()
    else:
        assert first in ("python", "cp", "eval"), f"nobody knows how to try {line!r}"
        shell.run(line)


def _make_users(shell: Shell, line: str) -> None:
    prefix = shell.vhost.name
    try:
        shell.run(re.sub(r"leveret users", f"leveret users --prefix {prefix}", line))
    finally:
        if "--dry-run" not in line:
            for role in ROLES:
                shell.vhost.api("DELETE", f"users/{prefix}-{role}")


def _ask_management(shell: Shell, line: str) -> None:
    (message,) = (one for one in doc_pages.blocks("json") if "routing_key" in one.text)
    shell.write("message.json", message.text)
    place = urlsplit(shell.vhost.settings.first_amqp_url)
    line = line.replace("http://localhost:15672/", shell.vhost.broker.management_url.rstrip("/") + "/")
    line = line.replace("%2F", shell.vhost.name).replace("guest:guest", f"{place.username}:{place.password}")
    said = shell.run(f"{line} --silent --show-error").stdout

    assert json.loads(said) == {"routed": True}

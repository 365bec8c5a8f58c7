"""What systemd, Compose and Kubernetes are given to run workers: they accept it, and it starts what there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from leveret import Deployment, SettingsError, WorkQueue
from leveret.command import deploy, run
from leveret.command import leveret as tree
from leveret.producers.scheduling import definition
from leveret.topology import queues, registry
from leveret.topology.deploy.deployment import TARGETS, label
from leveret.topology.deploy.writing import write_files
from leveret.topology.settings import CHECKOUT
from tests.unit.commands import leveret

ODD_NAMES = ("a.b", "a_b", "A.b", "a-b", "x" * 120, "x" * 119 + "y", "_:", "on", "1.2.-")
"""Names that queues may have, and many of which are none to Kubernetes."""
LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
HAS_HEALTH = any(option.name == "health" for option in run.verb.params)
MODULE = """
from leveret import Schedule, WorkQueue, task
mail = WorkQueue("mail")
reports = WorkQueue("reports", priorities=True)
@task("mail.send", queue=mail)
def send(to: str) -> None: ...
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module, in which the command runs; no queue, task or schedule is known."""
    for name in ("LEVERET_TASKS", "LEVERET_CONFIG", "RECORD", "SHUTDOWN_TIMEOUT_SECONDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.setattr(definition, "_known", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shop_tasks.py").write_text(MODULE, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("shop_tasks", None)


def odd_deployment(**more: Any) -> Deployment:
    made = [WorkQueue(name) for name in ODD_NAMES] + [WorkQueue("levels", priorities=True)]
    complete = {"has_schedules": True, "has_record": True, "image": "registry.example:5000/my_app:1.2"}
    return Deployment(name="shop", modules=["my_app", "other.tasks"], queues=made, **{**complete, **more})


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def check_command(words: list[str]) -> dict[str, Any]:
    """See that the command takes these words; returns what it makes of them."""
    program, verb, *arguments = words
    command = tree.get_command(click.Context(tree), verb)

    assert program.endswith("leveret")
    assert command
    return command.make_context(verb, arguments).params


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("together", [False, True])
def test_systemd_accepts_units(project: Path, together: bool) -> None:
    """The units pass its check without a word, and the folder and the program are those, however odd their names."""
    folder = project / "o  100% $HOME ;#é %i"
    folder.mkdir()
    shutil.copy("/bin/true", folder / "leveret")
    made = odd_deployment(together=together, folder=folder, program=[str(folder / "leveret")]).files("systemd")
    write_files(made, project / "units")
    checked = subprocess.run(
        ["systemd-analyze", "verify", *(str(project / "units" / name) for name in made)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{project / 'units'}:"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stderr) == (0, "")  # it looks for the program, so its name was read right
    assert len(made) == 4


def test_units_start_each_queue() -> None:
    """The target wants an instance for each queue, and an instance is a worker of that queue."""
    made = odd_deployment(grace_seconds=61.5, may_declare=False, program=["/srv/leveret"]).files("systemd")
    wanted = re.findall(r"^Wants=(.+)$", made["shop.target"], re.MULTILINE)
    unit = made["shop-worker@.service"]
    (started,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    instances = [one.removeprefix("shop-worker@").removesuffix(".service") for one in wanted[:-2]]
    commands = [check_command(shlex.split(started.replace("%i", one))) for one in instances]

    assert instances == [*ODD_NAMES, "levels"]
    assert wanted[-2:] == ["shop-scheduler.service", "shop-recorder.service"]
    assert [(one["queue_names"], one["no_declare"]) for one in commands] == [((one,), True) for one in instances]
    assert {"TimeoutStopSec=77", "KillMode=mixed", "Restart=on-failure"} <= {*unit.splitlines()}
    assert "Environment=SHUTDOWN_TIMEOUT_SECONDS=61.5" in unit
    assert all(len(f"shop-worker@{one}.service") <= 255 for one in instances)


@pytest.mark.parametrize("path", ["/srv/a\nExecStartPre=x", '/srv/"', "/srv/\\"])
def test_a_folder_that_no_unit_can_name(path: str) -> None:

    with pytest.raises(SettingsError, match=r"no unit of systemd can name .*; move it"):
        odd_deployment(folder=Path(path)).files("systemd")


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="Compose is not installed")
@pytest.mark.parametrize("has_broker", [False, True])
def test_compose_accepts_its_file(project: Path, has_broker: bool) -> None:
    """Compose reads the file as it is meant, with what the environment sets."""
    made = odd_deployment(has_broker=has_broker, image="").files("compose")
    write_files(made, project)
    given = {"RABBITMQ_USER": "hare", "RABBITMQ_PASSWORD": "carrot"} if has_broker else {"AMQP_URL": "amqp://b/%2F"}
    read = compose("config", **given)
    services = yaml.safe_load(read.stdout)["services"]
    workers = [one for name, one in services.items() if name.startswith("worker-")]
    urls = {one["environment"]["AMQP_URL"] for name, one in services.items() if name != "rabbitmq"}

    assert read.returncode == 0, read.stderr
    assert urls == {"amqp://hare:carrot@rabbitmq:5672/" if has_broker else "amqp://b/%2F"}
    assert [one["command"][2] for one in workers] == sorted(
        [*ODD_NAMES, "levels"], key=lambda one: label(f"worker-{one}")
    )
    assert {"scheduler", "recorder"} <= services.keys()


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="Compose is not installed")
def test_compose_asks_for_the_url(project: Path) -> None:
    """No worker starts at a broker that nobody has named."""
    write_files(odd_deployment().files("compose"), project)
    refused = compose("config", "--quiet")

    assert refused.returncode != 0
    assert "put it into the file .env" in refused.stderr


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="Compose is not installed")
def test_compose_accepts_the_cluster() -> None:
    """The cluster of the checkout has three nodes, which know each other's names and one cookie."""
    read = compose("--file", str(CHECKOUT / "docker-compose.yml"), "--profile", "cluster", "config")
    services = yaml.safe_load(read.stdout)["services"]
    nodes = {one["hostname"]: one for name, one in services.items() if re.fullmatch(r"rabbitmq\d", name)}
    listed = (CHECKOUT / "docs" / "rabbitmq-cluster.conf").read_text(encoding="utf-8")

    assert read.returncode == 0, read.stderr
    assert re.findall(r"^cluster_formation.classic_config.nodes.\d = rabbit@(\w+)$", listed, re.MULTILINE) == [*nodes]
    assert len({json.dumps([one["command"], one["environment"]]) for one in nodes.values()}) == 1
    assert len({port for one in nodes.values() for port in map(str, one["ports"])}) == 6


def compose(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    rest = {name: value for name, value in os.environ.items() if name not in ("AMQP_URL", "RABBITMQ_USER")}
    return subprocess.run(
        ["docker-compose", *arguments], env={**rest, **variables}, capture_output=True, text=True, check=False
    )


def test_kubernetes_accepts_manifests() -> None:
    """Each manifest is one by the schemas of Kubernetes, and has names that it takes."""
    manifests = documents(odd_deployment().files("kubernetes")["shop.yaml"])
    for one in manifests:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]

    assert len({*names}) == len(names) == len(ODD_NAMES) + 5
    assert [name for _, name in names if not LABEL.fullmatch(name)] == []


def test_pods_run_what_there_is() -> None:
    """Each pod runs a worker of its queue, which has time to end, and what is told of its health is asked for."""
    pods = [
        (one["metadata"]["name"], one["spec"]["template"]["spec"])
        for one in documents(odd_deployment(grace_seconds=100).files("kubernetes")["shop.yaml"])
        if one["kind"] == "Deployment"
    ]
    workers = [pod["containers"][0] for name, pod in pods if name.startswith("shop-worker-")]
    (secret,) = {one["env"][0]["valueFrom"]["secretKeyRef"]["name"] for one in workers}

    assert [check_command(one["command"])["queue_names"] for one in workers] == [
        (one,) for one in (*ODD_NAMES, "levels")
    ]
    assert [check_command(pod["containers"][0]["command"]) != {} for _, pod in pods[-2:]] == [True, True]
    assert {pod["terminationGracePeriodSeconds"] for _, pod in pods} == {115}
    assert {one["livenessProbe"]["httpGet"]["path"] for one in workers} == {"/healthz"}
    assert {one["readinessProbe"]["httpGet"]["path"] for one in workers} == {"/readyz"}
    assert secret == "shop-broker"


def test_keda_scales_what_there_is() -> None:
    """Each worker is scaled by all queues of the broker in which its messages wait."""
    made = odd_deployment().files("kubernetes")
    there = {one["metadata"]["name"] for one in documents(made["shop.yaml"]) if one["kind"] == "Deployment"}
    authentication, *scaled = documents(made["shop-keda.yaml"])
    by_target = {one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in scaled}
    triggers = [trigger for spec in by_target.values() for trigger in spec["triggers"]]

    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "host", "name": "shop-broker", "key": "SCALER_URL"}
    ]
    assert by_target.keys() == there - {"shop-scheduler", "shop-recorder"}
    assert [one["metadata"]["queueName"] for one in triggers] == [*ODD_NAMES, "levels.high", "levels", "levels.low"]
    assert {(one["type"], one["metadata"]["mode"], one["metadata"]["value"]) for one in triggers} == {
        ("rabbitmq", "QueueLength", "20")
    }
    assert {type(value) for one in triggers for value in one["metadata"].values()} == {str}  # it takes no numbers
    assert all(len(one["metadata"]["name"]) <= 54 for one in scaled)  # KEDA makes a label of it, with its own prefix


@pytest.mark.parametrize("target", TARGETS)
def test_no_secret_is_written(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://hare:carrot@broker/")

    assert "carrot" not in json.dumps(odd_deployment().files(target))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"name": "Shop"}, "'Shop' cannot name a deployment"),
        ({"name": "x\nExecStartPre=y"}, "cannot name a deployment"),
        ({"modules": ["my_app\nx: y"]}, "is no module"),
        ({"image": "x: y"}, "'x: y' cannot name an image"),
        ({"queues": []}, "has no queue"),
    ],
)
def test_what_cannot_be_deployed(more: dict[str, Any], reason: str) -> None:
    complete = {"name": "shop", "modules": ["my_app"], "queues": [WorkQueue("mail")]}

    with pytest.raises(SettingsError, match=reason):
        Deployment(**{**complete, **more})


def test_an_image_or_another_target() -> None:

    with pytest.raises(SettingsError, match=r"none is named; add --image"):
        odd_deployment(image="").files("kubernetes")
    with pytest.raises(SettingsError, match=r"no target 'nomad' .* systemd, compose, kubernetes"):
        odd_deployment().files("nomad")


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["systemd"], 1, "no task module is named: leveret deploy systemd -a my_app"),
        (["systemd", "mial", "-a", "shop_tasks"], 1, "did you mean 'mail'?"),
        (["kubernetes", "-a", "shop_tasks"], 1, "add --image"),
        (["nomad", "-a", "shop_tasks"], 2, "'nomad' is not one of"),
        (["systemd", "-a", "shop_tasks", "--broker"], 2, "--broker goes with compose"),
        (["systemd", "-a", "shop_tasks", "--out", "/proc/units"], 1, "cannot write to /proc/units"),
        (["systemd", "-a", "shop_tasks", "--out", "shop_tasks.py"], 2, "is a file"),
        (["systemd", "-a", "shop_tasks", "--name", "-"], 1, "cannot name a deployment"),
    ],
)
def test_wrong_usage(arguments: list[str], status: int, reason: str, capsys: pytest.CaptureFixture[str]) -> None:

    assert leveret("deploy", *arguments) == status
    said = capsys.readouterr()
    assert (reason in said.err, said.out) == (True, "")


@pytest.mark.parametrize("target", TARGETS)
def test_all_of_it_is_printed(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What stdout has is what --out would write, and nothing is written."""
    options = ("-a", "shop_tasks", "--image", "shop:1")

    assert leveret("deploy", target, *options) == 0
    printed = capsys.readouterr().out
    assert leveret("deploy", target, *options, "--out", "made", "-q") == 0
    files = capsys.readouterr().out.split()

    assert {Path(one).name for one in files} == {one.name for one in Path("made").iterdir()}
    assert all(Path(one).read_text(encoding="utf-8") in printed for one in files)
    assert target == "systemd" or all(documents(printed))


def test_nothing_is_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that somebody has changed stays until --yes; the same file again is no change."""
    command = ("deploy", "compose", "-a", "shop_tasks", "--out", ".")
    file = Path("compose.yaml")

    assert [leveret(*command), leveret(*command)] == [0, 0]
    written = file.read_text(encoding="utf-8")
    file.write_text("mine", encoding="utf-8")
    assert leveret(*command) == 1
    assert (file.read_text(encoding="utf-8"), sorted(one.name for one in Path.cwd().glob(".*"))) == ("mine", [])
    assert "compose.yaml in . would be replaced, and nothing was written; add --yes" in capsys.readouterr().err
    assert leveret(*command, "--yes") == 0
    assert file.read_text(encoding="utf-8") == written


def test_schedules_and_the_record_decide_what_runs_beside(capsys: pytest.CaptureFixture[str]) -> None:
    text = '[schedules.digest]\ntask = "mail.send"\nkwargs = {to = "a"}\nevery = "1h"\n'
    Path("leveret.toml").write_text(f'record = "off"\n{text}', encoding="utf-8")

    assert leveret("deploy", "compose", "mail", "reports", "--together", "-a", "shop_tasks") == 0
    services = yaml.safe_load(capsys.readouterr().out)["services"]
    assert [*services] == ["worker", "scheduler"]
    assert services["worker"]["command"][2:4] == ["mail", "reports"]


def test_a_name_is_made_of_a_module() -> None:

    assert [deploy._name_after(one) for one in ("my_app.tasks", "_1", "é", "a" * 30)] == [
        *("my-app", "leveret", "leveret"),
        "a" * 20,
    ]

"""Units of systemd: a target that starts all, a template with an instance for each queue, and what runs beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from leveret.topology.deploy.deployment import Deployment
from leveret.topology.errors import SettingsError

_UNUSABLE = re.compile(r"""[\x00-\x1f\x7f\\"'*?[]""")


def write(deployment: Deployment) -> dict[str, str]:
    """Return the units. Raises `SettingsError` for a folder that no unit can name."""
    _check_paths(deployment)
    name = deployment.name
    if deployment.together:
        queues = [queue.name for queue in deployment.queues]
        units = {f"{name}-worker.service": _worker(deployment, f"for {', '.join(queues)}", queues)}
        wanted = list(units)
    else:
        units = {f"{name}-worker@.service": _worker(deployment, "for %i", ["%i"])}
        wanted = [f"{name}-worker@{queue.name}.service" for queue in deployment.queues]
    if deployment.has_schedules:
        units[f"{name}-scheduler.service"] = _beside(deployment, "scheduler", "schedule")
    if deployment.has_record:
        units[f"{name}-recorder.service"] = _beside(deployment, "recorder", "recorder")
    return {f"{name}.target": _target(name, [*wanted, *list(units)[1:]]), **units}


def _check_paths(deployment: Deployment) -> None:
    for path in (str(deployment.folder), *deployment.program):
        if _UNUSABLE.search(path):
            raise SettingsError(
                f"no unit of systemd can name {path!r}, for it takes no quotes, backslash, * ? [ or control character; "
                "move it"
            )


def _target(name: str, wanted: Iterable[str]) -> str:
    return "".join(
        f"{line}\n"
        for line in (
            f"# Starts all of {name}: systemctl enable --now {name}.target",
            "[Unit]",
            f"Description={name}: workers, and what runs beside them",
            *(f"Wants={unit}" for unit in wanted),
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        )
    )


def _worker(deployment: Deployment, what: str, queues: list[str]) -> str:
    _, *arguments = deployment.run(queues)
    return _service(deployment, f"worker {what}", arguments)


def _beside(deployment: Deployment, what: str, verb: str) -> str:
    return _service(deployment, what, [verb, "--log-format", "json"])


def _service(deployment: Deployment, what: str, arguments: list[str]) -> str:
    name = deployment.name
    # %i stands for itself, as the only argument that is not ours to spell
    program, *others = deployment.program  # in its path alone a $ is nothing but that
    words = [_quoted(program), *map(_word, others), *(one if one == "%i" else _word(one) for one in arguments)]
    told = (f"Environment={_quoted(f'{key}={value}')}" for key, value in deployment.environment.items())
    return f"""\
# AMQP_URL=amqp://user:password@host/ stands in /etc/{name}/leveret.env, which only root can read.
[Unit]
Description={name}: {what}
Wants=network-online.target
After=network-online.target
PartOf={name}.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={" ".join(words)}
WorkingDirectory={str(deployment.folder).replace("%", "%%")}
EnvironmentFile=/etc/{name}/leveret.env
{chr(10).join(told)}
Environment=OUTPUT_DIR=%S/{name}
StateDirectory={name}
# It ends with 3 where it has handed back tasks that had not finished in time.
SuccessExitStatus=3
RestartPreventExitStatus=2
Restart=on-failure
RestartSec=5
# SIGTERM goes to the parent process alone, which lets tasks finish; SIGKILL goes to all.
KillMode=mixed
TimeoutStopSec={deployment.stop_seconds}

DynamicUser=yes
User={name}
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
UMask=0077
"""


def _word(text: str) -> str:
    """Return a word of a command line as it is, without anything that systemd would put in its place."""
    return _quoted(text).replace("$", "$$")


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[\w./:=,%+-]+", text, re.ASCII) else f'"{escaped}"'

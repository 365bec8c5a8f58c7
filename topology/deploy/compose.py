"""A file of Compose."""

from __future__ import annotations

from leveret.topology.deploy.deployment import Deployment
from leveret.topology.deploy.yaml import Yaml, render

_HEALTH_PORT = 8080
_ASKS = (
    f"import http.client as h; c = h.HTTPConnection('127.0.0.1', {_HEALTH_PORT}, timeout=5); "
    "c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"
)
_OUTPUT = "/app/output"


def write(deployment: Deployment) -> dict[str, str]:
    """Return the file."""
    services: dict[str, Yaml] = {}
    volumes: dict[str, Yaml] = {}
    if deployment.has_broker:
        services["rabbitmq"] = _broker()
        volumes["rabbitmq"] = {}
    for worker in deployment.workers:
        queues = [queue.name for queue in worker.queues]
        services[worker.name] = {
            **_service(deployment, deployment.run(queues, "--processes", "2", "--health", f":{_HEALTH_PORT}")),
            "healthcheck": {
                "test": ["CMD", "python", "-c", _ASKS],
                "interval": "10s",
                "timeout": "10s",
                "retries": 6,
                "start_period": "60s",
            },
        }
    if deployment.has_schedules:
        services["scheduler"] = _service(deployment, ["leveret", "schedule", "--log-format", "json"])
    if deployment.has_record:
        recorder = _service(deployment, ["leveret", "recorder", "--log-format", "json"])
        services["recorder"] = {
            **recorder,
            "environment": {**_environment(deployment), "RECORD_URL": "${RECORD_URL:-}", "OUTPUT_DIR": _OUTPUT},
            "volumes": [f"record:{_OUTPUT}"],
        }
        volumes["record"] = {}
    document: dict[str, Yaml] = {"services": services}
    if volumes:
        document["volumes"] = volumes
    return {"compose.yaml": _comment(deployment) + render(document)}


def _comment(deployment: Deployment) -> str:
    names = "RABBITMQ_USER and RABBITMQ_PASSWORD" if deployment.has_broker else "AMQP_URL"
    letters = (
        " They stand in AMQP_URL as they are: take letters, digits, - . _ ~ only." if deployment.has_broker else ""
    )
    return f"# {names} come from the environment or from a file .env beside this one.{letters}\n"


def _environment(deployment: Deployment) -> dict[str, str]:
    url = "${AMQP_URL:?put it into the file .env}"
    if deployment.has_broker:
        url = f"amqp://{_required('RABBITMQ_USER')}:{_required('RABBITMQ_PASSWORD')}@rabbitmq:5672/"
    return {"AMQP_URL": url, **deployment.environment}


def _required(variable: str) -> str:
    return f"${{{variable}:?put it into the file .env}}"


def _service(deployment: Deployment, command: list[str]) -> dict[str, Yaml]:
    built: dict[str, Yaml] = {} if deployment.image else {"build": "."}
    waits: dict[str, Yaml] = {"depends_on": {"rabbitmq": {"condition": "service_healthy"}}}
    return {
        **built,
        "image": deployment.image or deployment.name,
        "command": command,
        "environment": _environment(deployment),
        **(waits if deployment.has_broker else {}),
        "init": True,
        "stop_grace_period": f"{deployment.stop_seconds}s",
        "restart": "unless-stopped",
    }


def _broker() -> dict[str, Yaml]:
    return {
        "image": "rabbitmq:4-management",
        "hostname": "rabbitmq",
        "environment": {
            "RABBITMQ_DEFAULT_USER": _required("RABBITMQ_USER"),
            "RABBITMQ_DEFAULT_PASS": _required("RABBITMQ_PASSWORD"),
        },
        "ports": ["127.0.0.1:15672:15672"],
        "volumes": ["rabbitmq:/var/lib/rabbitmq"],
        "healthcheck": {
            "test": [
                "CMD-SHELL",
                "rabbitmq-diagnostics -q check_running && rabbitmq-diagnostics -q check_port_connectivity",
            ],
            "interval": "5s",
            "timeout": "15s",
            "retries": 24,
            "start_period": "10s",
        },
        "stop_grace_period": "60s",
        "restart": "unless-stopped",
    }

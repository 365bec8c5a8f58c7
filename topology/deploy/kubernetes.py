"""Manifests of Kubernetes, and of KEDA, which starts as many workers as the queues ask for."""

from __future__ import annotations

from leveret.topology.deploy.deployment import Deployment, Worker
from leveret.topology.deploy.yaml import Yaml, render
from leveret.topology.errors import SettingsError

_HEALTH_PORT = 8080
_OUTPUT = "/app/output"
_GROUP = 1000
_MESSAGES_EACH = "20"
_MOST_WORKERS = 10


def write(deployment: Deployment) -> dict[str, str]:
    """Return the manifests, and apart from them those of KEDA. Raises `SettingsError` without an image."""
    if not deployment.image:
        raise SettingsError("Kubernetes runs images, and none is named; add --image registry.example/my-app:1.2")
    secret = f"{deployment.name}-broker"
    first: list[dict[str, Yaml]] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(deployment, deployment.name),
            "data": deployment.environment,
        }
    ]
    scaling: list[dict[str, Yaml]] = [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": _metadata(deployment, secret),
            "spec": {"secretTargetRef": [{"parameter": "host", "name": secret, "key": "SCALER_URL"}]},
        }
    ]
    for worker in deployment.workers:
        queues = [queue.name for queue in worker.queues]
        command = deployment.run(queues, "--processes", "2", "--health", f":{_HEALTH_PORT}")
        first.append(_deployment(deployment, worker.name, {**_container(deployment, command), **_probes()}))
        scaling.append(_scaled(deployment, worker))
    if deployment.has_schedules:
        command = ["leveret", "schedule", "--log-format", "json"]
        first.append(_deployment(deployment, "scheduler", _container(deployment, command)))
    if deployment.has_record:
        first += _recorder(deployment)
    comment = (
        f"# kubectl create secret generic {secret} --from-literal=AMQP_URL=… --from-literal=SCALER_URL=…\n"
        "# comes before this. RECORD_URL in that secret is for the recorder, where the record is kept in PostgreSQL.\n"
    )
    about = (
        f"# SCALER_URL in the secret {secret} is http://user:password@host:15672/vhost, by which running tasks\n"
        "# count too, or amqp://user:password@host/vhost of one node, by which only those count that wait.\n"
    )
    return {
        f"{deployment.name}.yaml": comment + "---\n".join(map(render, first)),
        f"{deployment.name}-keda.yaml": about + "---\n".join(map(render, scaling)),
    }


def _metadata(deployment: Deployment, name: str, component: str = "") -> dict[str, Yaml]:
    return {"name": name, "labels": _labels(deployment, component)}


def _labels(deployment: Deployment, component: str = "") -> dict[str, Yaml]:
    labels: dict[str, Yaml] = {"app.kubernetes.io/name": deployment.name}
    return {**labels, "app.kubernetes.io/component": component} if component else labels


def _deployment(
    deployment: Deployment, component: str, container: dict[str, Yaml], **more: dict[str, Yaml]
) -> dict[str, Yaml]:
    labels = _labels(deployment, component)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(deployment, f"{deployment.name}-{component}", component),
        "spec": {
            "selector": {"matchLabels": labels},
            **more.get("spec", {}),
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": deployment.stop_seconds,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {"fsGroup": _GROUP, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{"name": "leveret", **container}],
                    **more.get("pod", {}),
                },
            },
        },
    }


def _container(deployment: Deployment, command: list[str]) -> dict[str, Yaml]:
    return {
        "image": deployment.image,
        "command": command,
        "envFrom": [{"configMapRef": {"name": deployment.name}}],
        "env": [_from_secret(deployment, "AMQP_URL")],
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _from_secret(deployment: Deployment, key: str, is_optional: bool = False) -> dict[str, Yaml]:
    reference: dict[str, Yaml] = {"name": f"{deployment.name}-broker", "key": key}
    return {
        "name": key,
        "valueFrom": {"secretKeyRef": {**reference, "optional": True} if is_optional else reference},
    }


def _probes() -> dict[str, Yaml]:
    """Return the probes of a worker. Only the first waits for modules that take long to import."""

    def asks(path: str, failures: int) -> dict[str, Yaml]:
        return {
            "httpGet": {"path": path, "port": "health"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    return {
        "ports": [{"name": "health", "containerPort": _HEALTH_PORT}],
        "startupProbe": asks("/healthz", 30),
        "livenessProbe": asks("/healthz", 6),
        "readinessProbe": asks("/readyz", 3),
    }


def _recorder(deployment: Deployment) -> list[dict[str, Yaml]]:
    """Return the recorder, one at a time, and the disk on which its SQLite is."""
    disk = f"{deployment.name}-record"
    container: dict[str, Yaml] = {
        **_container(deployment, ["leveret", "recorder", "--log-format", "json"]),
        "env": [
            _from_secret(deployment, "AMQP_URL"),
            _from_secret(deployment, "RECORD_URL", is_optional=True),
            {"name": "OUTPUT_DIR", "value": _OUTPUT},
        ],
        "volumeMounts": [{"name": "record", "mountPath": _OUTPUT}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": _metadata(deployment, disk, "recorder"),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
        },
        _deployment(
            deployment,
            "recorder",
            container,
            spec={"strategy": {"type": "Recreate"}},
            pod={"volumes": [{"name": "record", "persistentVolumeClaim": {"claimName": disk}}]},
        ),
    ]


def _scaled(deployment: Deployment, worker: Worker) -> dict[str, Yaml]:
    name = f"{deployment.name}-{worker.name}"
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _metadata(deployment, name, worker.name),
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": 1,
            "maxReplicaCount": _MOST_WORKERS,
            "triggers": [
                {
                    "type": "rabbitmq",
                    "metadata": {
                        "protocol": "auto",
                        "queueName": waits_in,
                        "mode": "QueueLength",
                        "value": _MESSAGES_EACH,
                    },
                    "authenticationRef": {"name": f"{deployment.name}-broker"},
                }
                for queue in worker.queues
                for waits_in in queue.waits_in
            ],
        },
    }

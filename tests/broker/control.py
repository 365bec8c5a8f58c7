"""The running broker, told by its rabbitmqctl: TLS listeners, alarms, a queue that gives no answer."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.topology.local import node
from leveret.topology.local.finding import Broker
from leveret.topology.local.launch import find_server, free_ports
from leveret.topology.local.process import Node


class BrokerControl:
    """Evaluates Erlang on the broker: by BROKER_CTL, a rabbitmqctl command, or on the private node in a folder."""

    def __init__(self, found: Broker, folder: Path | None = None) -> None:
        self._environment = dict(os.environ)
        running = node.status(folder)
        if "BROKER_CTL" in os.environ:
            self._command = shlex.split(os.environ["BROKER_CTL"])
        elif running and running.amqp_url == found.amqp_url:
            self._command = self._of_private_node(running)
        else:
            pytest.skip("set BROKER_CTL to the rabbitmqctl command of this broker")

    def _of_private_node(self, running: Node) -> list[str]:
        self._environment |= {"HOME": str(running.folder), "ERL_EPMD_PORT": str(running.epmd_port)}
        server = find_server()
        assert server
        return [str(Path(server).with_name("rabbitmqctl")), "-n", running.name]

    def evaluate(self, expression: str) -> None:
        """Evaluate it, and see that it returns ok."""
        ended = subprocess.run(
            [*self._command, "eval", expression], env=self._environment, capture_output=True, text=True, check=False
        )

        assert ended.stdout.strip() == "ok", (ended.stdout, ended.stderr)

    @contextlib.contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Raise the memory alarm, and end it."""
        self.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.0000001).")
        try:
            yield
        finally:
            self.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4).")

    @contextlib.contextmanager
    def unanswering(self, vhost: str, queue: str) -> Iterator[None]:
        """Let the process of a quorum queue stand still, as one that has lost its majority does."""
        process = f'whereis(binary_to_atom(<<"{vhost}_{queue}">>))'
        self.evaluate(f"sys:suspend({process}).")
        try:
            yield
        finally:
            self.evaluate(f"sys:resume({process}).")

    def forget_stream(self, vhost: str, name: str) -> None:
        """Have the coordinator of streams know one no more, as where the nodes are down that did.

        RabbitMQ 3.10 could not delete it afterwards, nor its virtual host.
        """
        self.evaluate(
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{name}">>)), '
            "#{name := Name} = amqqueue:get_type_state(Q), "
            "{ok, ok, _} = ra:process_command({rabbit_stream_coordinator, node()}, {delete_stream, Name, #{}}), ok."
        )

    @contextlib.contextmanager
    def listener(self, ca_file: Path, cert_file: Path, key_file: Path, asks_client: bool = True) -> Iterator[int]:
        """Open a TLS listener on the loopback address; yields its port.

        The broker writes the files itself, for it may live in another file system.
        """
        (port,) = free_ports(1)
        folder = f'D = filename:basedir(user_cache, "leveret-test-{uuid.uuid4().hex}")'
        files = {"cacertfile": ca_file, "certfile": cert_file, "keyfile": key_file}
        writes = "".join(f"ok = file:write_file({_in(name)}, {_binary(path)}), " for name, path in files.items())
        options = ", ".join(f"{{{name}, {_in(name)}}}" for name in files)
        verify = "{verify, verify_peer}, {fail_if_no_peer_cert, true}" if asks_client else "{verify, verify_none}"
        place = f'{{"127.0.0.1", {port}}}'
        self.evaluate(
            f"{folder}, ok = filelib:ensure_dir({_in('any')}), {writes}"
            f"rabbit_networking:start_ssl_listener({place}, [{options}, {verify}], 1)."
        )
        try:
            yield port
        finally:
            self.evaluate(f"ok = rabbit_networking:stop_tcp_listener({place}), {folder}, file:del_dir_r(D).")


def _in(name: str) -> str:
    return f'filename:join(D, "{name}")'


def _binary(path: Path) -> str:
    lines = path.read_text(encoding="ascii").replace("\n", "\\n")
    return f'<<"{lines}">>'

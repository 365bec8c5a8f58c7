"""RabbitMQ's management API: what AMQP cannot do (users, rights) or not tell (who is bound)."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from leveret.topology.errors import AccessRefused, BrokerError, BrokerUnreachable
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, mask, tls

_REDIRECTED, _REFUSED, _NOT_FOUND = 300, 400, 404


class Management:
    """Calls the management API as the user of MANAGEMENT_URL, or else of AMQP_URL.

    It knows no proxy and follows no redirect: the password is the broker's alone.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 10.0) -> None:
        place = urlsplit(settings.management_url)
        login = place if place.username else urlsplit(settings.first_amqp_url)
        self.user = unquote(login.username or "guest")
        self._credentials = f"{self.user}:{unquote(login.password or 'guest')}"
        self._url = bare_url(settings.management_url)
        self._tls_files = settings.tls_files if place.scheme == "https" else None
        self._timeout_seconds = timeout_seconds
        self.date = ""
        """The broker's time, as its last answer said it: HTTP's `Date`."""

    def call(self, method: str, *path: str, document: object = None) -> Any:
        """Call the API at /api/ and these parts of a path; returns what it answers, None when there is no such thing.

        Raises `BrokerUnreachable` where no management API answers, `AccessRefused` where it does not let this user do
        that, `BrokerError` for anything else it says.
        """
        what = printable(f"{method} /api/{'/'.join(path)}")
        try:
            status, text, reason = self._ask(method, path, document)
            if status < _REDIRECTED:
                return json.loads(text) if text else None
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                raise BrokerUnreachable(tls.explain(error, f"the management API at {self._url}")) from error
            raise BrokerUnreachable(
                f"the management API at {self._url} does not answer ({what}): {printable(error)}; enable it on the "
                "broker (rabbitmq-plugins enable rabbitmq_management), or set MANAGEMENT_URL"
            ) from error
        if status == _NOT_FOUND:
            return None
        raise self._refused(status, printable(_reason(text) or mask(reason)), what)

    def _ask(self, method: str, path: tuple[str, ...], document: object) -> tuple[int, bytes, str]:
        place = urlsplit(self._url)
        address = (place.hostname or "", place.port)
        connection = (
            http.client.HTTPSConnection(*address, timeout=self._timeout_seconds, context=self._tls_files.context())
            if self._tls_files
            else http.client.HTTPConnection(*address, timeout=self._timeout_seconds)
        )
        login = base64.b64encode(self._credentials.encode()).decode()
        try:
            connection.request(
                method,
                f"{place.path}api/{'/'.join(quote(part, safe='') for part in path)}",
                None if document is None else json.dumps(document),
                {"Content-Type": "application/json", "Authorization": f"Basic {login}"},
            )
            answer = connection.getresponse()
            self.date = answer.getheader("Date") or ""
            return answer.status, answer.read(), answer.reason
        finally:
            connection.close()

    def _refused(self, status: int, reason: str, what: str) -> BrokerError:
        where = f"the management API at {self._url}"
        if status < _REFUSED:
            return BrokerError(
                f"{where} answers {what} with {status} {reason}, a redirect; set MANAGEMENT_URL to its end"
            )
        if status in (401, 403):
            return AccessRefused(
                f"{where} does not let user {self.user!r} do that ({what}): {reason}; check its password, and its "
                f"rights: rabbitmqctl set_user_tags {self.user} administrator"
            )
        return BrokerError(f"{where} refused {what}: {status} {reason}")


def bare_url(url: str) -> str:
    """Return a URL of the management API without user and password, ending in a slash."""
    place = urlsplit(url)
    path = place.path if place.path.endswith("/") else f"{place.path}/"
    return urlunsplit(SplitResult(place.scheme, place.netloc.rpartition("@")[2], path, "", ""))


def _reason(text: bytes) -> str:
    try:
        return str(json.loads(text)["reason"])
    except (ValueError, KeyError, TypeError):
        return ""

"""RabbitMQ's management API: what AMQP cannot do (users, rights) or not tell (who is bound)."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.request
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from leveret.topology.errors import AccessRefused, BrokerError, BrokerUnreachable
from leveret.topology.settings import Settings, mask, tls

_NOT_FOUND = 404


class Management:
    """Calls the management API as the user of MANAGEMENT_URL, or else of AMQP_URL."""

    def __init__(self, settings: Settings, timeout_seconds: float = 10.0) -> None:
        place = urlsplit(settings.management_url)
        login = place if place.username else urlsplit(settings.first_amqp_url)
        self.user = unquote(login.username or "guest")
        self._credentials = f"{self.user}:{unquote(login.password or 'guest')}"
        self._url = bare_url(settings.management_url)
        self._timeout_seconds = timeout_seconds
        # No proxy, as for AMQP: the password is the broker's alone.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if place.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=settings.tls_files.context()))
        self._opener = urllib.request.build_opener(*handlers)

    def call(self, method: str, *path: str, document: object = None) -> Any:
        """Call the API at /api/ and these parts of a path; returns what it answers, None when there is no such thing.

        Raises `BrokerUnreachable` where no management API answers, `AccessRefused` where it does not let this user do
        that, `BrokerError` for anything else it says.
        """
        what = f"{method} /api/{'/'.join(path)}"
        request = urllib.request.Request(  # noqa: S310 - Settings checked the scheme
            f"{self._url}api/{'/'.join(quote(part, safe='') for part in path)}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        # Not with the other headers, for those go wherever the answer redirects to.
        login = base64.b64encode(self._credentials.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except HTTPError as error:
            with error:
                return self._refused(error, what)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise BrokerUnreachable(tls.explain(reason, f"the management API at {self._url}")) from error
            raise BrokerUnreachable(
                f"the management API at {self._url} does not answer ({what}): {reason}; enable it on the broker "
                "(rabbitmq-plugins enable rabbitmq_management), or set MANAGEMENT_URL"
            ) from error

    def _refused(self, error: HTTPError, what: str) -> None:
        reason = _reason(error)
        if error.code == _NOT_FOUND:
            return
        if error.code in (401, 403):
            raise AccessRefused(
                f"the management API at {self._url} does not let user {self.user!r} do that ({what}): {reason}; check "
                f"its password, and its rights: rabbitmqctl set_user_tags {self.user} administrator"
            ) from error
        raise BrokerError(f"the management API at {self._url} refused {what}: {error.code} {reason}") from error


def bare_url(url: str) -> str:
    """Return a URL of the management API without user and password, ending in a slash."""
    place = urlsplit(url)
    path = place.path if place.path.endswith("/") else f"{place.path}/"
    return urlunsplit(SplitResult(place.scheme, place.netloc.rpartition("@")[2], path, "", ""))


def _reason(error: HTTPError) -> str:
    try:
        said = json.loads(error.read(10_000))
        return str(said["reason"])
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return mask(error.reason)

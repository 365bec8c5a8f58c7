"""Making the broker's users, each with the least rights."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from leveret.topology import queues
from leveret.topology.access.management import Management
from leveret.topology.access.rights import Rights, rights_of, taken_away, topic_rights_of
from leveret.topology.errors import BrokerError


def make_user(api: Management, name: str, role: str, password: str, replace: bool) -> bool:
    """Make a user, or with `replace` give an existing one this password; returns whether the password was set.

    Raises `BrokerError` when a user of this name has tags, and so is not one of ours.
    """
    existing = api.call("GET", "users", name)
    if existing and existing["tags"]:
        raise BrokerError(
            f"user {name!r} exists and may do more than role {role}: it has the tags {existing['tags']}; take "
            "other names with --prefix"
        )
    sets_password = existing is None or replace
    if sets_password:
        api.call("PUT", "users", name, document={"password": password, "tags": ""})
    return sets_password


def give_rights(api: Management, vhost: str, name: str, role: str) -> list[str]:
    """Set what the user may do in the virtual host, for all work queues of this program; returns what that ends."""
    rights = rights_of(role, queues.known())
    former = api.call("GET", "permissions", vhost, name) or {}
    ended = taken_away(Rights(*(former.get(kind, "") for kind in Rights._fields)), rights)
    api.call("PUT", "permissions", vhost, name, document=rights._asdict())
    for topics in topic_rights_of(role):
        if api.call("GET", "exchanges", vhost, topics.exchange) is None:  # the broker keeps no rights for what is not
            api.call("PUT", "exchanges", vhost, topics.exchange, document={"type": "topic", "durable": True})
        api.call("PUT", "topic-permissions", vhost, name, document=topics._asdict())
    return [
        f"{name} had the right to {kind} {pattern} in virtual host {vhost!r}, and loses what is not for the queues "
        "of the modules named now; name all of them with --tasks, or give others their users with --prefix"
        for kind, pattern in ended.items()
    ]


def url_of(amqp_url: str, user: str, password: str) -> str:
    """Return the URL of the same broker, or of each of several, for another user."""
    urls = []
    for url in amqp_url.split(";"):
        place = urlsplit(url)
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        urls.append(place._replace(netloc=f"{login}@{place.netloc.rpartition('@')[2]}").geturl())
    return ";".join(urls)


def show(prefix: str, roles: Sequence[str]) -> str:
    """Return which users there would be and what each may do."""
    lines = []
    for role in roles:
        rights = rights_of(role, queues.known())
        lines.append(f"{prefix}-{role}")
        lines.extend(f"  {name:<9}  {pattern}" for name, pattern in rights._asdict().items())
        for topics in topic_rights_of(role):
            lines.extend(
                f"  {kind:<9}  {pattern}  by key on {topics.exchange}"
                for kind, pattern in (("write", topics.write), ("read", topics.read))
            )
    return "\n".join(lines)

"""Make the broker's users, each with the least rights: `python -m topology.users [--tasks MODULE]`. See --help.

Doing it again is safe: rights are set anew, passwords stay. A password is never an argument, and is shown once.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from topology import broker, modules, queues, settings
from topology.command import run, tell
from topology.declare import SAMPLES
from topology.errors import BrokerError, SettingsError
from topology.management import Management
from topology.rights import ROLES, Rights, rights_of, taken_away
from topology.settings import Settings, vhost_of

_PASSWORD_BYTES = 24


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


def give_rights(api: Management, vhost: str, name: str, role: str) -> None:
    """Set what the user may do in the virtual host, for all work queues of this program; say what that ends."""
    rights = rights_of(role, queues.known())
    former = api.call("GET", "permissions", vhost, name) or {}
    for kind, pattern in taken_away(Rights(*(former.get(kind, "") for kind in Rights._fields)), rights).items():
        print(
            f"{name} had the right to {kind} {pattern} in virtual host {vhost!r}, and loses what is not for the queues "
            "of the modules named now; name all of them with --tasks, or give others their users with --prefix",
            file=sys.stderr,
        )
    api.call("PUT", "permissions", vhost, name, document=rights._asdict())


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
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.password_stdin and (options.new_passwords or len(options.role or ROLES) != 1):
        parser.error("--password-stdin gives one password: name one --role with it, and no --new-passwords")
    return run("topology.users", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    modules.load(options.tasks or [SAMPLES])
    roles = options.role or ROLES
    if options.dry_run:
        tell(show(options.prefix, roles))
        return 0
    given = _read_password() if options.password_stdin else ""
    configured = broker.resolve(settings.load())
    api, vhost = Management(configured), vhost_of(configured.first_amqp_url)
    if api.call("GET", "vhosts", vhost) is None:
        raise BrokerError(f"there is no virtual host {vhost!r}; make it first: rabbitmqctl add_vhost {vhost}")
    for role in roles:
        _make(api, configured, vhost, f"{options.prefix}-{role}", role, given, options.new_passwords)
    return 0


def _make(
    api: Management, configured: Settings, vhost: str, name: str, role: str, given: str, new_passwords: bool
) -> None:
    password = given or secrets.token_urlsafe(_PASSWORD_BYTES)
    was_set = make_user(api, name, role, password, bool(given) or new_passwords)
    if was_set and not given:
        tell(url_of(configured.amqp_url, name, password))  # nobody can ask for it later
    give_rights(api, vhost, name, role)
    what = "its password is set" if was_set else "it was there, with the password it keeps"
    print(f"{name} has the rights of role {role} in virtual host {vhost!r}; {what}", file=sys.stderr)


def _read_password() -> str:
    if sys.stdin is None:
        raise SettingsError("--password-stdin: standard input is closed; write the password to it, in one line")
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise SettingsError("--password-stdin: standard input is empty; write the password to it, in one line")
    return password


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m topology.users",
        description="Make a user each for producers, workers and who declares, with no more rights than that takes. "
        "AMQP_URL names an administrator and the virtual host. The URL of each new user, with its password, goes to "
        "stdout, once. Doing it again is safe, and brings the rights up to date.",
        epilog="examples:\n"
        "  python -m topology.users --dry-run\n"
        "  python -m topology.users --tasks my_app\n"
        "  python -m topology.users --tasks my_app --role worker --new-passwords\n"
        "  python -m topology.users --tasks my_app --role worker --password-stdin < worker-password",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    modules.add_option(parser, "module whose queues the users work with; may be repeated", SAMPLES)
    parser.add_argument("--role", action="append", choices=ROLES, help="only this one; may be repeated")
    parser.add_argument(
        "--prefix", default="leveret", metavar="NAME", help="users are NAME-ROLE (default: %(default)s)"
    )
    parser.add_argument("--new-passwords", action="store_true", help="give users that exist a new password, too")
    parser.add_argument("--password-stdin", action="store_true", help="read the password of one user from stdin")
    parser.add_argument("--dry-run", action="store_true", help="show users and rights, and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Make the broker's users, each with the least rights.

Doing it again is safe: rights are set anew, passwords stay. A password is never an argument, and is shown once.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence

import click

from leveret.command import task_modules
from leveret.command.ending import tell
from leveret.command.samples import SAMPLE_QUEUES
from leveret.command.verb import Verb, note, quiet_option, split_commas, tasks_option
from leveret.topology import queues, settings
from leveret.topology.access.management import Management
from leveret.topology.access.rights import ROLES
from leveret.topology.access.users import give_rights, make_user, show, url_of
from leveret.topology.errors import BrokerError, SettingsError
from leveret.topology.link import default_broker
from leveret.topology.settings import Settings, vhost_of

_PASSWORD_BYTES = 24


@click.command(
    "users",
    cls=Verb,
    help="Make a user each for producers, workers and who declares, with no more rights than that takes.\n\n"
    "AMQP_URL names an administrator and the virtual host. The URL of each new user, with its password, goes to "
    "stdout, once. Doing it again is safe, and brings the rights up to date.",
    examples="""
leveret users --dry-run -a my_app
leveret users -a my_app
leveret users -a my_app --role worker --new-passwords
leveret users -a my_app --role worker --password-stdin < worker-password
""",
)
@tasks_option("Module whose queues the users work with; may be repeated")
@click.option(
    "--role", multiple=True, metavar="|".join(ROLES), callback=split_commas, help="Only this one; may be repeated."
)
@click.option("--prefix", default="leveret", metavar="NAME", show_default=True, help="Users are NAME-ROLE.")
@click.option("--new-passwords", is_flag=True, help="Give users that exist a new password, too.")
@click.option("--password-stdin", is_flag=True, help="Read the password of one user from stdin.")
@click.option("--dry-run", is_flag=True, help="Show users and rights, and stop.")
@quiet_option
def verb(
    tasks: Sequence[str],
    role: Sequence[str],
    prefix: str,
    new_passwords: bool,
    password_stdin: bool,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Make the users."""
    roles = role or ROLES
    for one in roles:
        if one not in ROLES:
            raise click.BadParameter(f"there is no role {one!r}; there are: {', '.join(ROLES)}", param_hint="--role")
    if password_stdin and (new_passwords or len(roles) != 1):
        raise click.UsageError("--password-stdin gives one password: name one --role with it, and no --new-passwords")
    configured = settings.load()
    names = task_modules.named(tasks, configured) or (SAMPLE_QUEUES,)
    task_modules.load(names)
    task_modules.check_has_queue(names, queues.known())
    if dry_run:
        tell(*show(prefix, roles).splitlines())
        return 0
    given = _read_password() if password_stdin else ""
    configured = default_broker.resolve(configured)
    api, vhost = Management(configured), vhost_of(configured.first_amqp_url)
    if api.call("GET", "vhosts", vhost) is None:
        raise BrokerError(f"there is no virtual host {vhost!r}; make it first: rabbitmqctl add_vhost {vhost}")
    for one in roles:
        said = _make(api, configured, vhost, f"{prefix}-{one}", one, given, new_passwords)
        note(said, quiet)
    return 0


def _make(
    api: Management, configured: Settings, vhost: str, name: str, role: str, given: str, new_passwords: bool
) -> str:
    password = given or secrets.token_urlsafe(_PASSWORD_BYTES)
    was_set = make_user(api, name, role, password, bool(given) or new_passwords)
    if was_set and not given:
        tell(url_of(configured.amqp_url, name, password))  # nobody can ask for it later
    for warning in give_rights(api, vhost, name, role):
        note(warning)
    what = "its password is set" if was_set else "it was there, with the password it keeps"
    return f"{name} has the rights of role {role} in virtual host {vhost!r}; {what}"


def _read_password() -> str:
    if sys.stdin is None:
        raise SettingsError("--password-stdin: standard input is closed; write the password to it, in one line")
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise SettingsError("--password-stdin: standard input is empty; write the password to it, in one line")
    return password

"""What others write into a body: fields of Celery, which would be ignored, and names that are nearly ours."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

from leveret.topology.errors import UnreadableMessage

FIELDS = frozenset({"version", "task", "args", "kwargs"})
"""Those of our own."""
_CELERY = ("eta", "expires", "countdown", "callbacks", "errbacks", "chain", "chord")
"""What Celery's message of protocol 1 asks for beside the call. It names all of them, with null for most."""
_PAGE = "see docs/coming-from-celery.md"


def check_unknown(document: dict[str, Any]) -> None:
    """Raise `UnreadableMessage` for a field that asks for what would not be done. Any other unknown field is kept."""
    for name in _CELERY:
        if document.get(name) is not None:
            raise UnreadableMessage(
                f"the body has the field {name!r} of a Celery message, which is not followed here; {_PAGE}"
            )
    for name in document:
        if name not in FIELDS and (ours := _NEAR.get(name.lower())):
            raise UnreadableMessage(f"the body has a field {name!r}, which nobody reads; did you mean {ours!r}?")


def check_not_celery(document: object) -> None:
    """Raise `UnreadableMessage` for a body of Celery's protocol 2: arguments, named ones, and what is to follow."""
    match document:
        case [list(), dict(), dict() as embedded] if "callbacks" in embedded or "chain" in embedded:
            raise UnreadableMessage(
                f"the body is an array of Celery's protocol 2, which names its task in a header; {_PAGE}"
            )


def _variants(name: str) -> set[str]:
    """Return what one slip makes of a name: another case, a letter too few or too many, two letters swapped."""
    places = range(len(name) + 1)
    more = {name[:place] + letter + name[place:] for place in places for letter in f"{ascii_lowercase}_-. "}
    fewer = {name[:place] + name[place + 1 :] for place in places}
    swapped = {name[:place] + name[place : place + 2][::-1] + name[place + 2 :] for place in places}
    return more | fewer | swapped


_NEAR = {variant: name for name in FIELDS for variant in _variants(name)}

"""Where the command `leveret` begins. What ends it ends it quietly from here on, for loading the rest takes a while."""

import os
import signal
import sys

EXIT_INTERRUPTED = 130  # what shells report of a command ended by Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    ended = signal.getsignal(signal.SIGINT)
    if ended is signal.default_int_handler:  # in no process that had it ignored
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    if arguments[:1] in (["run"], ["recorder"]):  # by default a container's first process would not hear of it
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from leveret.command import main as command

    return command(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m topology.users`, in a checkout, is `leveret users`."""

if __name__ == "__main__":
    import sys

    from leveret.__main__ import main

    sys.exit(main(["users", *sys.argv[1:]]))

"""`python -m topology.node`, in a checkout, is `leveret node`."""

if __name__ == "__main__":
    import sys

    from leveret.__main__ import main

    sys.exit(main(["node", *sys.argv[1:]]))

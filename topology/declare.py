"""`python -m topology.declare`, in a checkout, is `leveret declare`."""

if __name__ == "__main__":
    import sys

    from leveret.__main__ import main

    sys.exit(main(["declare", *sys.argv[1:]]))

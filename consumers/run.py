"""`python -m consumers.run`, in a checkout, is `leveret run`."""

if __name__ == "__main__":
    import sys

    from leveret.__main__ import main

    sys.exit(main(["run", *sys.argv[1:]]))

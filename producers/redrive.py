"""`python -m producers.redrive`, in a checkout, is `leveret redrive`."""

if __name__ == "__main__":
    import sys

    from leveret.__main__ import main

    sys.exit(main(["redrive", *sys.argv[1:]]))

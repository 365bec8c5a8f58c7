"""`python -m producers.submit`, in a checkout, is `leveret submit`, and without arguments the sample job."""

if __name__ == "__main__":
    import sys

    from leveret.__main__ import main

    sys.exit(main(["submit", *(sys.argv[1:] or ["--samples"])]))

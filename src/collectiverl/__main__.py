"""`python -m collectiverl`."""

from collectiverl.cli import main

if __name__ == "__main__":
    main()

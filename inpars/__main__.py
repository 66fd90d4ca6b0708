"""`python -m inpars` is the `inpars` command."""

import sys

from inpars.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

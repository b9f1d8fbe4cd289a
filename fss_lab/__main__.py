"""`python -m fss_lab` is `fss-lab`."""

import sys

from fss_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())

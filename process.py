"""The challenge's entry point: `python process.py` is the container, `python process.py batch` the command `lnq`."""

import sys

from lnq.cli import run

if __name__ == "__main__":
    sys.exit(run("process.py"))

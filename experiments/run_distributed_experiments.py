"""Run the full experiments with all who share this folder: the same as `fedspec run distributed`, with the same flags."""

import sys

from fedspec.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "distributed", *sys.argv[1:]]))

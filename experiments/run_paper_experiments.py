"""Run the paper's experiments: the same as `fedspec run paper`, with the same flags."""

import sys

from fedspec.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "paper", *sys.argv[1:]]))

"""Run the quick experiments: the same as `fedspec run quick`, with the same flags."""

import sys

from fedspec.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "quick", *sys.argv[1:]]))

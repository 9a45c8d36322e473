"""``python -m fedspec.cli``: the command without an installed script."""

import sys

from fedspec.cli import main

sys.exit(main())

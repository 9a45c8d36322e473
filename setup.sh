#!/usr/bin/env bash
# Sets up this machine (Linux, macOS) and runs what is asked for:
#
#   ./setup.sh              set up, then say what to run next
#   ./setup.sh quick ...    set up, then `fedspec run quick ...`
#   ./setup.sh test ...     set up, then every check and the tests; further arguments go to pytest
#   ./setup.sh ANYTHING     set up, then `fedspec ANYTHING`
#
# It only finds a Python 3.11 or newer (or takes $PYTHON); setup_common.py does the rest, the same on every system.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Running it is the only sure test: a version manager's shim may be there for a version that is not.
is_suitable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for python in "${PYTHON:-python3.13}" python3.12 python3.11 python3 python; do
    if is_suitable "$python"; then
        exec "$python" "$here/setup_common.py" "$@"
    fi
    if [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON is set to $PYTHON, which is not a working Python 3.11 or newer." >&2
        echo "  fix: Set PYTHON to a newer one, or unset it to let this script look for one." >&2
        exit 3
    fi
done

case $(uname -s) in
    Darwin) remedy='Install one with "brew install python@3.13" or from python.org' ;;
    *) remedy='Install one, on Debian or Ubuntu with "sudo apt install python3 python3-venv"' ;;
esac
echo "error: No Python 3.11 or newer was found on this machine." >&2
echo "  fix: $remedy, then run the same command again." >&2
exit 3

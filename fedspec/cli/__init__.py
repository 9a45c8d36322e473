"""The command line: one file a command. It parses, prints and picks exit codes; what happens is decided below.

Nothing here imports torch, pandas or pyplot before a command needs them: ``--help`` and ``progress`` answer at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from fedspec.errors import FedspecError

ABORTED = 130
# NumPy's and SciPy's BLAS, by the names of OpenBLAS and of Apple's: on threads of their own the small products here take up to
# twenty times as long, and their last bits would depend on the machine. torch has as many threads as an experiment says.
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code and never raises what a person can act on."""
    for name in ONE_THREAD:
        os.environ[name] = "1"  # before anything imports NumPy; workers inherit it
    import typer

    from fedspec.cli.app import app
    from fedspec.cli.console import complain, utf8

    utf8()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or bool(os.environ.get("FEDSPEC_DEBUG"))
    try:
        code = app([a for a in arguments if a != "--debug"], standalone_mode=False, prog_name="fedspec")
    except FedspecError as error:
        if debug:
            traceback.print_exc()
        complain(error.what, error.fix)
        return error.exit_code
    except KeyboardInterrupt:
        return ABORTED
    except BrokenPipeError:
        # The reader (head, less) has gone; there is nobody left to tell.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - only until the process ends
        return 0
    except typer.Abort:  # how typer passes an interrupt on
        return ABORTED
    except Exception as error:
        if hasattr(error, "format_message"):  # what typer finds wrong with the arguments
            from fedspec.cli.usage import usage_words

            complain(*usage_words(error))
            return 2
        if hasattr(error, "exit_code"):
            return int(error.exit_code)
        if debug:
            raise
        complain(
            f"fedspec hit a bug: {type(error).__name__}: {error}.",
            "Run the command again with --debug and report what it prints; what was saved is kept.",
        )
        return 1
    return code if isinstance(code, int) else 0

"""How a program ends: 0 done, 2 wrong usage or configuration, 1 failed; one clear line on stderr, never a traceback.

Every entry point (``tickcast``, ``python -m tickcast.processor``, ``python -m tickcast.gateway``) runs its main through
`guarded`. A supervisor takes a child's exit code 2 as "starting it again would not help".
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable

from tickcast.errors import ConfigError, RuleError, TickcastError

__all__ = ["DONE", "FAILED", "WRONG_USAGE", "describe", "exit_code", "guarded"]

DONE, FAILED, WRONG_USAGE = 0, 1, 2
INTERRUPTED = 130
"""What shells expect of a program ended by Ctrl-C."""


def guarded(main: Callable[[], int | None]) -> int:
    """Run `main` and return its exit code; an error becomes one line on stderr."""
    try:
        code = main() or DONE
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output has left (`tickcast tail | head`); the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if _wants_traceback():
            traceback.print_exc()
        print(f"tickcast: error: {describe(error)}", file=sys.stderr, flush=True)
        return exit_code(error)


def _wants_traceback() -> bool:
    # A supervised child has no variable, but the level that the supervisor took from it.
    return os.environ.get("TICKCAST_LOG_LEVEL") == "debug" or logging.getLogger().isEnabledFor(logging.DEBUG)


def exit_code(error: BaseException) -> int:
    """Return the exit code of a program that ends by `error`."""
    code: int = getattr(error, "code", WRONG_USAGE if isinstance(error, ConfigError | RuleError) else FAILED)
    return code


def describe(error: BaseException) -> str:
    """Return the error in one line."""
    if isinstance(error, TickcastError):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, OSError) and error.errno is None and str(error):  # our own, with file and cause
        text = str(error)
    elif isinstance(error, ModuleNotFoundError):
        text = f"{error}; is it installed here?"
    else:
        text = f"internal error, {type(error).__name__}: {error} (TICKCAST_LOG_LEVEL=debug shows where)"
    return " ".join(text.split())

"""`python -m lrlab` is the same program as `lrlab`, which begins here too."""

import os
import sys


def main() -> int:
    """Run the command line; Ctrl-C while it is still being loaded ends it without a traceback."""
    if sys.platform == "win32":  # which has neither the signals that save a run, nor directories that can be synced
        sys.stderr.write("lrlab: it runs on Linux and macOS, and not on Windows. Use it in WSL, Windows' own Linux.\n")
        return 2
    try:
        from lrlab.cli import main as run
    except KeyboardInterrupt:
        os._exit(130)
    return run()


if __name__ == "__main__":
    sys.exit(main())

"""Where the process begins: signals are heeded first, then comes what takes time to import."""

from __future__ import annotations

import sys

from ilvrctl.cli import signals


def main() -> None:
    """Entry point of the console script."""
    signals.listen()
    try:
        from ilvrctl.cli.app import main as run

        run()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("interrupted\n")
        sys.exit(signals.exit_code())
    finally:
        signals.end()

"""Where the process begins: signals are heeded first, then comes what takes time to import."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        _run()
    except KeyboardInterrupt:  # SIGINT, before there was a handler, or any signal just after
        heard = sys.modules.get("ilvrctl.cli.signals")
        _interrupted(130 if heard is None else heard.exit_code())


def _run() -> None:
    from ilvrctl.cli import signals

    signals.listen()
    try:
        from ilvrctl.cli.complete import answer

        offered = answer()
        if offered is not None:
            sys.stdout.write(f"{offered}\n")
            return
        from ilvrctl.cli.app import main as run

        run()
    except (KeyboardInterrupt, Exception):  # Python before 3.12 makes a RuntimeError of one in __set_name__
        if signals.received() is None:
            raise
        _interrupted(signals.exit_code())
    finally:
        signals.end()


def _interrupted(code: int) -> None:
    if sys.stderr is not None:
        sys.stderr.write("interrupted\n")
    sys.exit(code)

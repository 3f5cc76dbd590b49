"""``python -m ilvrctl``."""

from ilvrctl.cli.app import main

main()

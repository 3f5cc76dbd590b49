"""``python -m ilvrctl``."""

from ilvrctl.cli.start import main

if __name__ == "__main__":
    main()

"""``python -m tunery`` is the command ``tunery``."""

from tunery.cli.main import main

if __name__ == "__main__":
    main()

"""Run the ``reprkit`` command as ``python -m reprkit``."""

from reprkit.commands.main import main

if __name__ == "__main__":
    main()

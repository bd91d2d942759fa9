"""``python -m reprkit`` is the ``reprkit`` command."""

from reprkit.commands.main import main

if __name__ == "__main__":
    main()

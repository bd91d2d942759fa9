"""``python -m reprkit`` is the ``reprkit`` command."""

from reprkit.cli import main

if __name__ == "__main__":
    main()

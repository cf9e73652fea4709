"""
What ``python -m pop3connect`` and the command ``pop3connect`` begin with.

It is there without the extra ``cli`` too, to say what is missing.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = ("click", "rich")


def main() -> int:
    """Run the command line, and return its exit status."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(  # noqa: T201 - click is missing
            f"pop3connect: the command line needs {' and '.join(missing)}, which is "
            "not installed: pip install 'pop3connect[cli]'",
            file=sys.stderr,
        )
        return 2
    from .cli.app import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

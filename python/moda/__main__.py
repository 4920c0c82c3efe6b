"""``python -m moda`` is ``moda``."""

from __future__ import annotations

import sys

from moda.app.cli import main

if __name__ == "__main__":
    sys.exit(main())

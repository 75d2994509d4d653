from __future__ import annotations

import sys
from pathlib import Path

# The tools are scripts, and import each other by their folder.
for folder in ("nano", "everyday"):
    sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / folder))

"""Writes docs/exported/: what `leveret export` makes of `my_app.py` of the README.

python docs/export_examples.py [FOLDER]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_FILES = {
    "definitions": "definitions.json",
    "asyncapi": "asyncapi.json",
    "schemas": "schemas.json",
    "svg": "queues.svg",
}
_BLOCK = re.compile(r"^```python\n(# my_app\.py\n.*?)^```$", re.MULTILINE | re.DOTALL)


def export(target: Path) -> None:
    """Write the files into a folder."""
    checkout = Path(__file__).resolve().parent.parent
    found = _BLOCK.search((checkout / "README.md").read_text(encoding="utf-8"))
    assert found, "README.md has no my_app.py"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
    environment = {**kept, "PYTHONPATH": str(checkout), "AMQP_URL": "amqp://user:password@rabbit.example/"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "my_app.py").write_text(found[1], encoding="utf-8")
        for kind, file in _FILES.items():
            command = [sys.executable, "-m", "leveret", "export", kind, str(target / file), "-a", "my_app", "-q"]
            subprocess.run(command, cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    export(Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parent / "exported").resolve())

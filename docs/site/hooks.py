"""MkDocs: adds the pages that follow from the code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    # MkDocs takes back what a hook puts on the path while it is loaded.
    sys.path.insert(0, str(Path(__file__).parent))
    from reference import pages

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files

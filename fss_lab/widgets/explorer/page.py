"""The explorer as one HTML file that needs neither Python nor a network."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from fss_lab.files import write_atomically

# The policy keeps the page off the network, whatever is in it; blob: are its own decoded images.
PAGE = Template("""<!DOCTYPE html>
<html lang="en" class="fx-page">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>$title</title>
<style>
html, body { margin: 0; padding: 0; }
$style
</style>
</head>
<body>
<main id="explorer"></main>
<noscript>This page needs JavaScript.</noscript>
<script type="application/json" id="description">$description</script>
<script type="text/plain" id="data">$data</script>
<script type="module">
$script
const text = (id) => document.getElementById(id).textContent;
const { state, ...description } = JSON.parse(text("description"));
await mountPage(description, text("data"), state);
document.getElementById("data").remove();
</script>
</body>
</html>
""")  # noqa: E501


def html_page(
    path: Path, script: str, style: str, description: Mapping[str, Any], data: bytes, state: Mapping[str, Any]
) -> Path:
    """Write the page; names in the description may hold anything. Returns the path. Raises FileError."""
    content = json.dumps({**description, "state": state})
    name = description["className"]
    page = PAGE.substitute(
        title=html.escape(f"Attention explorer: find the {name}" if name else "Attention explorer"),
        style=style,
        description=content.replace("<", "\\u003c"),  # nothing in it can end the element
        data=base64.b64encode(data).decode(),
        script=script,
    )
    write_atomically(path, page.encode())
    return path

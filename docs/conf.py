"""How the documents are built: ``tox -e docs``."""

project = "twisted-kv"
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3

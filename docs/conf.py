"""Sphinx builds docs/_build/html from this: `make docs`."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import built_site  # noqa: E402
import generated_pages  # noqa: E402

from sae_lightning import __version__  # noqa: E402

project, author, release = "sae_lightning", "sae_lightning contributors", __version__
project_copyright = author
html_title = f"sae_lightning {__version__}"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # outputs are kept in no notebook, and belong to the package as it is now
nb_execution_cache_path = str(HERE / "_build/notebooks" / built_site.fingerprint(HERE.parent / "sae_lightning"))
nb_execution_in_temp = True  # the runs that they leave lie beside them
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds for a cell
nb_output_stderr = "remove"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, Any] = {}  # from a CDN

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True
napoleon_use_ivar = True  # attributes beside arguments, not as documented twice


def only_what_is_there(app: Any, page: str, source: list[str]) -> None:  # noqa: ANN401
    """Leave out patterns of a toctree that match nothing, and links to pages that are no part of the site, in place."""
    folder = (HERE / page).parent
    lines = [line for line in source[0].split("\n") if not re.fullmatch(r"[\w/]+\*", line) or any(folder.glob(line))]
    source[0] = re.sub(r"\[([^\]]*)\]\((?:\.\./)+(?:configs|data|benchmarks)/[^)]*\)", r"\1", "\n".join(lines))


def setup(app: Any) -> None:  # noqa: ANN401
    """Write the generated pages before anything is read, and look at the site when it is built."""
    generated_pages.write(HERE / "reference/generated")
    app.connect("source-read", only_what_is_there)
    app.connect("autodoc-process-docstring", generated_pages.as_restructured_text, priority=0)
    app.connect("build-finished", built_site.check)

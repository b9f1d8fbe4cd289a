"""Settings of the course's web site; `python lab.py site` builds it (see fss_lab/course/site.py)."""

import importlib.util
import shutil
from pathlib import Path

project = "fss_lab"
html_title = "Few-shot segmentation with SAM 2"
language = "en"
extensions = ["myst_nb"]
root_doc = "index"
highlight_language = "none"  # of blocks that do not say what they are; notebooks do

# The notebooks hold their outputs: nothing runs here, and nothing is fetched.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_code_prompt_show = "Show one solution"
nb_code_prompt_hide = "Hide the solution"

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
pygments_style = "a11y-high-contrast-light"  # of accessible-pygments, which furo brings
pygments_dark_style = "github-dark"

mathjax_path = "mathjax/tex-chtml-full.js"  # Sphinx's own default is an address in the network


def setup(app):
    """Sphinx asks for this."""
    app.connect("build-finished", copy_mathjax)


def copy_mathjax(app, error):
    """One script and its fonts from the package that carries all of MathJax."""
    if error is None:
        package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
        target = Path(app.outdir, "_static", "mathjax")
        shutil.copytree(package / "output" / "chtml" / "fonts", target / "output" / "chtml" / "fonts")
        shutil.copy(package / "tex-chtml-full.js", target)

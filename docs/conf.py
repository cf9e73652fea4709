"""How Sphinx builds these pages:  sphinx-build -W -b html docs docs/_build/html"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

import limits  # noqa: E402
import session_diagram  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from sphinx.directives.code import LiteralInclude  # noqa: E402

import pop3connect  # noqa: E402

project = "pop3connect"
author = "The pop3connect developers"
project_copyright = author
version = release = pop3connect.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode"]
# What follows "::" is output, mostly.
highlight_language = "none"
html_theme = "furo"
html_title = "pop3connect"
html_static_path: list[str] = []
exclude_patterns = ["_build"]

# CI has no network: only links between pages and to files are followed.
linkcheck_ignore = ["https?:"]

# In docstrings, single backticks name Python's things; those of others lead nowhere.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
# One parameter in each line, where the whole has more characters.
maximum_signature_line_length = 80
# Types are shown by the names that they have in the code.
autodoc_type_aliases = {
    "CACerts": "CACerts",
    "ClientCertificate": "ClientCertificate",
    "EventProcedure": "EventProcedure",
    "Password": "Password",
    "StatusProcedure": "StatusProcedure",
}

# Made at each build, so that they never differ from the code.
(HERE / "_build").mkdir(exist_ok=True)
(HERE / "_build" / "limits.rst").write_text(limits.draw(), "utf-8")
(HERE / "_build" / "session.svg").write_text(session_diagram.draw(), "utf-8")


class Example(LiteralInclude):
    """Shows an example below its name, which is a link that downloads it."""

    def run(self):
        """Return the nodes."""
        path = self.arguments[0]
        shown = f"examples/{Path(path).name}"
        self.options.setdefault("caption", f":download:`{shown} <{path}>`")
        return super().run()


def setup(app: Sphinx) -> None:
    """Let every page show its examples in this way."""
    app.add_directive("literalinclude", Example, override=True)

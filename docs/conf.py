"""How Sphinx builds these pages:  sphinx-build -W -b html docs docs/_build/html"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

import limits  # noqa: E402
import session_diagram  # noqa: E402
from docutils import nodes  # noqa: E402
from docutils.nodes import Element  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from sphinx.directives.code import LiteralInclude  # noqa: E402
from sphinx.environment import BuildEnvironment  # noqa: E402
from sphinx.util.nodes import make_refnode  # noqa: E402

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
html_static_path = ["_static"]
html_css_files = ["pop3connect.css"]
# Characters in a word of code that is not broken.
SHORT = 24
exclude_patterns = ["_build"]

# CI has no network: only links between pages and to files are followed.
linkcheck_ignore = ["https?:"]

# In docstrings, single backticks name Python's things; those of others lead nowhere.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
# One parameter in each line, where the whole has more characters.
maximum_signature_line_length = 80
# Types are shown by the names that they have in the code.
autodoc_type_aliases = {
    "CACerts": "CACerts",
    "ClientCertificate": "ClientCertificate",
    "EventProcedure": "EventProcedure",
    "IConsumer": "IConsumer",
    "IListeningPort": "IListeningPort",
    "IReactorTCP": "IReactorTCP",
    "IReactorTime": "IReactorTime",
    "IResolver": "IResolver",
    "Into": "Into",
    "Progress": "Progress",
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


def lead(
    app: Sphinx, env: BuildEnvironment, node: Element, text: Element
) -> Element | None:
    """Let the name of something of ours lead there, from the text of any module."""
    target = node.get("reftarget", "")
    things = env.domains["py"].data["objects"]
    found = [name for name in things if name.endswith(f".{target}")]
    if node.get("refdomain") != "py" or not found:
        return None
    # connect() is that of the package, not that of a class in it.
    name = min(found, key=lambda name: name.count("."))
    page, anchor = things[name].docname, things[name].node_id
    return make_refnode(app.builder, node["refdoc"], page, anchor, text, name)


def break_code(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """
    Say where code in a text may go on in the next line.

    Short words stay whole, so that no "--" is left behind. The name of a test may be
    broken after each dot and underscore.
    """
    for code in list(doctree.findall(nodes.literal)):
        text = code.astext()
        if re.fullmatch(r"tests\.[\w.]+", text):
            parts = re.sub(r"(?<=[._])", "<wbr>", text)
            markup = (
                f'<code class="literal test"><span class="pre">{parts}</span></code>'
            )
            code.replace_self(nodes.raw("", markup, format="html"))
        elif max(map(len, text.split()), default=0) <= SHORT:
            code["classes"].append("short")


def plain_names(*found: str | None) -> tuple[str, ...] | None:
    """Show the alias of a type in a union by its name alone."""
    signature, returned = found[-2:]
    if signature is None:
        return None
    return tuple(
        re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text or "")
        for text in (signature, returned)
    )


def setup(app: Sphinx) -> None:
    """Do the same on every page."""
    app.add_directive("literalinclude", Example, override=True)
    app.connect("autodoc-process-signature", plain_names)
    app.connect("missing-reference", lead)
    app.connect("doctree-resolved", break_code)

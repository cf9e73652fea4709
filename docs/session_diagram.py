"""
Draws the states of a session from the table in `pop3connect.session`.

    python docs/session_diagram.py > session.svg
"""

from __future__ import annotations

import sys
from html import escape
from textwrap import wrap

from pop3connect.session import ALLOWED, State

WIDTH, MARGIN, LINE, GAP = 460, 16, 18, 34

STYLE = """
  rect { fill: none; stroke: #607d8b; stroke-width: 1.5 }
  text { font: 13px sans-serif; fill: #607d8b }
  .name { font-weight: bold }
  .verbs { font-family: monospace }
  line { stroke: #607d8b; stroke-width: 1.5; marker-end: url(#tip) }
  path { fill: #607d8b }
"""


def box(state: State, top: int) -> tuple[list[str], int]:
    """Return the elements of one state, and where its box ends."""
    verbs = wrap(" ".join(sorted(ALLOWED[state])) or "no command", 54)
    height = 2 * MARGIN + LINE * (1 + len(verbs))
    elements = [
        f'<rect x="1" y="{top}" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="name" x="{MARGIN}" y="{top + MARGIN + 8}">{state.name}'
        f'<tspan font-weight="normal"> - {escape(state.value)}</tspan></text>',
    ]
    for number, text in enumerate(verbs, 1):
        y = top + MARGIN + 8 + LINE * number
        elements.append(f'<text class="verbs" x="{MARGIN}" y="{y}">{text}</text>')
    return elements, top + height


def draw() -> str:
    """Return the diagram as SVG: a box for each state, in the order of a session."""
    elements: list[str] = []
    top = 1
    for state in State:
        if elements:
            middle = WIDTH // 2
            elements.append(
                f'<line x1="{middle}" y1="{top}" x2="{middle}" y2="{top + GAP - 8}"/>'
            )
            top += GAP
        more, top = box(state, top)
        elements += more
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2}" '
        f'height="{top + 2}" viewBox="0 0 {WIDTH + 2} {top + 2}">\n'
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="4" refY="4" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>\n'
        + "\n".join(elements)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    sys.stdout.write(draw())

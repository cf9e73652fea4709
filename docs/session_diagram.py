"""
Draws the states of a session from the table in `pop3connect.sansio.states`.

    python docs/session_diagram.py > session.svg
"""

from __future__ import annotations

import sys
from html import escape
from textwrap import wrap

from pop3connect.sansio.states import ALLOWED, State

WIDTH, MARGIN, LINE, GAP, SIDE = 312, 14, 18, 40, 14

WAYS = {
    State.AUTHORIZATION: "the server greets with +OK",
    State.TRANSACTION: "+OK to PASS, APOP or AUTH",
    State.UPDATE: "QUIT",
    State.CLOSED: "answered: what was marked is deleted",
}
"""What leads to a state from the one before."""

ENDS = "abort(), a loss, an error that ends the session"

STYLE = """
  .diagram { overflow-x: auto }
  .session rect { fill: none; stroke: currentColor; stroke-width: 1.5 }
  .session text { font: 13px sans-serif; fill: currentColor }
  .session .name { font-weight: bold }
  .session .verbs { font-family: monospace }
  .session .way { font-size: 12px; font-style: italic }
  .session .line { fill: none; stroke: currentColor; stroke-width: 1.5 }
  .session .tip { marker-end: url(#tip) }
  .session .end { stroke-dasharray: 4 3 }
  .session marker path { fill: currentColor }
"""
"""The picture is a part of the page, and has the colour of its text: dark on a light
page, and light on a dark one.  On a very small screen it scrolls."""

TITLE = "The states of a session, each with the commands that it allows"


def box(state: State, top: int) -> tuple[list[str], int]:
    """Return the elements of one state, and where its box ends."""
    verbs = wrap(" ".join(sorted(ALLOWED[state])) or "no command", 36)
    height = 2 * MARGIN + LINE * len(verbs) + 12
    elements = [
        f'<rect x="1" y="{top}" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="name" x="{MARGIN}" y="{top + MARGIN + 8}">{state.name}'
        f'<tspan font-weight="normal"> - {escape(state.value)}</tspan></text>',
    ]
    for number, text in enumerate(verbs, 1):
        y = top + MARGIN + 8 + LINE * number
        elements.append(f'<text class="verbs" x="{MARGIN}" y="{y}">{text}</text>')
    return elements, top + height


def way(state: State, top: int) -> list[str]:
    """Return the arrow that leads down to a state, and what it says."""
    return [
        f'<path class="line tip" d="M{2 * MARGIN} {top} v{GAP - 8}"/>',
        f'<text class="way" x="{3 * MARGIN}" y="{top + GAP // 2 + 4}">'
        f"{escape(WAYS[state])}</text>",
    ]


def ends(middles: list[int]) -> list[str]:
    """Return the line by which each state can lead to the last one."""
    *others, last = middles
    elements = [
        f'<path class="line end" d="M{WIDTH + 1} {y} h{SIDE}"/>' for y in others
    ]
    elements.append(
        f'<path class="line end tip" d="M{WIDTH + 1 + SIDE} {others[0]} V{last} '
        f'h-{SIDE - 8}"/>'
    )
    x, y = WIDTH + SIDE + 12, (others[0] + last) // 2
    elements.append(
        f'<text class="way" text-anchor="middle" transform="rotate(90 {x} {y})" '
        f'x="{x}" y="{y}">{escape(ENDS)}</text>'
    )
    return elements


def draw() -> str:
    """Return the diagram as SVG: a box for each state, in the order of a session."""
    elements: list[str] = []
    middles: list[int] = []
    top = 1
    for state in State:
        if elements:
            elements += way(state, top)
            top += GAP
        more, bottom = box(state, top)
        elements += more
        middles.append((top + bottom) // 2)
        top = bottom
    elements += ends(middles)
    width = WIDTH + SIDE + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="session" role="img" '
        f'width="{width}" height="{top + 2}" viewBox="0 0 {width} {top + 2}">\n'
        f"<title>{TITLE}</title>\n"
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="4" refY="4" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>\n'
        + "\n".join(elements)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    sys.stdout.write(draw())

"""
Completes command lines in bash, where click needs help with the names of accounts.
"""

from __future__ import annotations

from click.shell_completion import BashComplete

from .named import MARK

__all__ = ["BashCompletion"]


class BashCompletion(BashComplete):
    """Completion in bash, which takes an ``@`` for a word of its own."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the one that is being written."""
        words: list[str] = []
        args, incomplete = super().get_completion_args()
        for word in (*args, incomplete):
            if words and words[-1] == MARK:
                words[-1] += word
            else:
                words.append(word)
        return words[:-1], words[-1]

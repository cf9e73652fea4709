"""Remedies: what to do about an error, in the words of each front end."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

import pop3connect
from pop3connect import CommandError, ProtocolError, TLSOptions, connect
from pop3connect.cli import exits
from pop3connect.cli.access import access_options
from pop3connect.omnis import words as omnis
from pop3connect.omnis.commands import Omnis
from pop3connect.remedies import USE_TLS, Option, Remedy, literal

SERVER_TEXT = (
    "auth=plain is disabled",
    "set secure to 1 or 2",
    "set secure=1 or secure=2",
    "cacerts: /srv/{cacerts} {}",
    "timeout must be capa=False",
)
"""What a server may say; it looks like words of ours."""


def named_options() -> Iterator[Option]:
    """Find the options that errors of the package are made with, in its source."""
    folder = Path(pop3connect.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if not isinstance(node.func, ast.Name) or node.func.id != "Option":
                continue
            parts = [n.value for n in node.args if isinstance(n, ast.Constant)]
            if isinstance(parts and parts[0], str):
                yield Option(*parts)


class RemedyTests(SynchronousTestCase):
    def test_library_text_names_options_as_arguments_of_connect(self) -> None:
        self.assertEqual(str(USE_TLS), "set secure=1 or secure=2")
        error = ProtocolError("odd", server="h:110", remedy=USE_TLS)
        self.assertEqual(str(error), "h:110: odd; set secure=1 or secure=2")

    def test_each_option_in_an_error_is_an_option_of_connect(self) -> None:
        known = {
            *inspect.signature(connect).parameters,
            *inspect.signature(TLSOptions).parameters,
        }
        found = set(named_options())
        self.assertIn(Option("secure", 1), found)
        self.assertIn(Option("pipeline", False), found)
        for option in found:
            self.assertIn(option.name, known)

    def test_each_option_has_a_command_line_form_that_exists_or_none(self) -> None:
        command = click.command()(access_options(lambda access: None))
        flags = {
            flag
            for parameter in command.params
            for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        for option in named_options():
            text = exits.words(ProtocolError("x", remedy=Remedy("{}", (option,))))
            self.assertNotIn(f"{option.name}=", text)
            used = [word for word in text.split() if word.startswith("--")]
            self.assertEqual(set(used) - flags, set(), option)

    def test_each_option_has_an_omnis_form_that_exists_or_none(self) -> None:
        known = {
            *inspect.signature(Omnis.POP3Connect).parameters,
            *inspect.signature(Omnis.WebDevSetConfig).parameters,
            "set_omnis_folder(),",
        }
        for option in named_options():
            text = omnis.words(ProtocolError("x", remedy=Remedy("{}", (option,))))
            self.assertNotIn(f"{option.name}=", text)
            if text != "x":
                self.assertIn(text.removeprefix("x; ").split()[0], known)

    def test_remedy_that_a_front_end_does_not_have_is_left_out(self) -> None:
        error = ProtocolError("odd", remedy=Remedy("use {}", (Option("utf8", True),)))
        self.assertEqual(exits.words(error), "odd")
        error = ProtocolError("odd", remedy=Remedy("use {}", (Option("capa", False),)))
        self.assertEqual(omnis.words(error), "odd")
        self.assertEqual(str(error), "odd; use capa=False")

    def test_omnis_names_its_own_parameters(self) -> None:
        for remedy, shown in (
            (USE_TLS, "set secure 1 or secure 2"),
            (Remedy("say {}", (Option("auth", "XOAUTH2"),)), "say auth 'XOAUTH2'"),
            (Remedy("raise {}", (Option("timeout"),)), "raise commstimeout"),
        ):
            text = omnis.words(ProtocolError("odd", remedy=remedy))
            self.assertEqual(text, f"odd; {shown}")

    def test_text_of_a_server_is_never_reworded(self) -> None:
        for text in SERVER_TEXT:
            for words in (str, exits.words, omnis.words):
                message = f"the server refused: {text}"
                error = CommandError(message, server="h:110", verb="PASS")
                self.assertEqual(words(error), f"h:110: PASS: {message}")
                error.remedy = USE_TLS
                self.assertTrue(words(error).startswith(f"h:110: PASS: {message}; set"))

    def test_literal_text_in_a_remedy_is_shown_as_it_is(self) -> None:
        for text in SERVER_TEXT:
            remedy = Remedy(literal(text) + " {}", (Option("capa", False),))
            self.assertEqual(str(remedy), f"{text} capa=False")

"""
The public surface, name by name.

Other people's programs stand on it.  If a test here fails, it is the change that is
wrong, and not the test.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from enum import IntEnum
from importlib import import_module

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import pop3connect
from pop3connect import Handle, Secure, collect, connect, errors
from pop3connect.client.prefetch import Messages

NAMES = [
    "UID",
    "Candidate",
    "Capabilities",
    "CommandError",
    "Committed",
    "ConnectError",
    "ConnectionLostError",
    "Connector",
    "DestinationError",
    "Handle",
    "Listing",
    "LoginError",
    "LoginInfo",
    "Message",
    "POP3ClientFactory",
    "POP3ClientProtocol",
    "POP3Error",
    "ProtocolError",
    "Refused",
    "STLSUnavailableError",
    "Secure",
    "Stat",
    "Stored",
    "TLSError",
    "TLSInfo",
    "TLSOptions",
    "TimedOutError",
    "UsageError",
    "VerificationError",
    "__version__",
    "connect",
    "discover",
]

MODULES = {
    "blocking": ["BlockingHandle", "connect"],
    "collect": [
        "AccountSettings",
        "BodyHash",
        "CollectService",
        "Config",
        "Content",
        "DestinationSettings",
        "Identified",
        "InUseError",
        "Inventory",
        "Later",
        "ListingRefusedError",
        "Mail",
        "Never",
        "Outcome",
        "PasswordSource",
        "Plan",
        "Remembered",
        "content_of",
        "identify",
        "key_of",
        "read_config",
        "take_inventory",
        "whole_content_of",
    ],
    "events": [
        "Closed",
        "CommandSent",
        "Connected",
        "Event",
        "EventProcedure",
        "MessageReceived",
        "ReplyReceived",
        "Secured",
    ],
    "omnis": [
        "Code",
        "MailSplit",
        "Omnis",
        "POP3Connect",
        "POP3DeleteMessage",
        "POP3Disconnect",
        "POP3ListMessages",
        "POP3MessageCount",
        "POP3Recv",
        "POP3RecvHeaders",
        "POP3RecvMessage",
        "POP3Stat",
        "POP3UndoDeletes",
        "Part",
        "WebDevGetSecureError",
        "WebDevSetConfig",
        "error_text",
        "kFalse",
        "kTrue",
        "set_omnis_folder",
    ],
    "testing": ["MailboxServer", "Script", "ScriptedServer"],
}
"""What users import from other modules of the package."""

SIGNATURE = (
    "(server, username, password, stsproc=None, secure=<Secure.NONE: 0>, "
    "verify=True, *, cacerts=None, system_trust=False, reactor=None, "
    "endpoint=None, auth='auto', timeout=60.0, connect_timeout=30.0, "
    "max_message_size=None, max_listing=2000000, pipeline=True, "
    "client_certificate=None, "
    "allow_cleartext=True, utf8=False, capa=True, tls=None, pins=None, "
    "proxy=None, authorize_as=None, events=None)"
)

METHODS = {
    "stat": "(self)",
    "list": "(self)",
    "size": "(self, number)",
    "uidl": "(self)",
    "uid": "(self, number)",
    "retrieve": "(self, number, destination=None)",
    "top": "(self, number, lines=0)",
    "delete": "(self, number)",
    "reset": "(self)",
    "noop": "(self)",
    "messages": "(self, numbers=None, ahead=..., into=None, progress=None)",
    "headers": "(self, numbers=None, lines=0)",
    "capa": "(self)",
    "lang": "(self, tag=None)",
    "utf8": "(self)",
    "command": "(self, verb, *arguments, multiline=False)",
    "disconnect": "(self)",
    "abort": "(self)",
    "when_closed": "(self)",
}

PROPERTIES = ["capabilities", "greeting", "is_open", "login", "server", "tls"]


def signature(function: object) -> str:
    """Show a signature without its annotations."""
    assert callable(function)
    whole = inspect.signature(function)
    bare = whole.replace(
        parameters=[
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in whole.parameters.values()
        ],
        return_annotation=inspect.Signature.empty,
    )
    return str(bare)


class PackageTests(SynchronousTestCase):
    """The names of the package."""

    def test_package_exports_exactly_the_listed_names(self) -> None:
        self.assertEqual(sorted(pop3connect.__all__), sorted(NAMES))

    def test_every_exported_name_can_be_imported(self) -> None:
        names: dict[str, object] = {}
        exec("from pop3connect import *", names)
        for name in NAMES:
            self.assertIs(names[name], getattr(pop3connect, name))

    def test_every_exported_name_has_a_docstring(self) -> None:
        for name in NAMES:
            if name != "__version__":
                self.assertTrue(getattr(pop3connect, name).__doc__, name)

    def test_public_modules_export_exactly_the_listed_names(self) -> None:
        for name, names in MODULES.items():
            module = import_module(f"pop3connect.{name}")
            self.assertEqual(sorted(module.__all__), names, name)

    def test_package_exports_every_error_class(self) -> None:
        self.assertLessEqual(set(errors.__all__), set(pop3connect.__all__))

    def test_unknown_name_raises_attribute_error(self) -> None:
        with self.assertRaises(AttributeError) as caught:
            pop3connect.disconnect  # noqa: B018
        self.assertIn("disconnect", str(caught.exception))

    def test_version_begins_with_three_numbers(self) -> None:
        self.assertTrue(re.match(r"\d+\.\d+\.\d+", pop3connect.__version__))

    def test_importing_the_package_installs_no_reactor(self) -> None:
        """Which reactor there is, is the business of the application."""
        code = (
            "import sys, pop3connect\n"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        python = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(filter(None, sys.path))},
            check=False,
        )
        self.assertEqual(python.returncode, 0)


class CollectTests(SynchronousTestCase):
    """`pop3connect.collect`, whose names are imported when they are used."""

    def test_every_name_can_be_imported_and_has_a_docstring(self) -> None:
        names: dict[str, object] = {}
        exec("from pop3connect.collect import *", names)
        for name in MODULES["collect"]:
            self.assertTrue(names[name].__doc__, name)
            self.assertIn(name, dir(collect))

    def test_unknown_name_raises_attribute_error(self) -> None:
        with self.assertRaises(AttributeError) as caught:
            collect.watch  # noqa: B018
        self.assertIn("watch", str(caught.exception))

    def test_command_lines_load_no_database_and_no_reactor(self) -> None:
        code = (
            "import sys, pop3connect.cli.app, pop3connect.tap\n"
            "from pop3connect.collect import identify\n"
            "late = 'sqlalchemy', 'alembic', 'twisted.internet.reactor'\n"
            "print([name for name in late if name in sys.modules])"
        )
        python = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(filter(None, sys.path))},
            check=False,
            capture_output=True,
            text=True,
        )
        self.assertEqual(python.stdout, "[]\n", python.stderr)


class ConnectTests(SynchronousTestCase):
    """`connect`"""

    def test_connect_has_the_listed_signature(self) -> None:
        self.assertEqual(signature(connect), SIGNATURE)

    def test_connect_with_wrong_arguments_returns_a_failed_deferred(self) -> None:
        answer = connect("", "", "")
        self.assertIsInstance(answer, Deferred)
        self.failureResultOf(answer, pop3connect.UsageError)

    def test_secure_has_the_listed_members(self) -> None:
        self.assertTrue(issubclass(Secure, IntEnum))
        self.assertEqual(
            list(Secure.__members__.items()), [("NONE", 0), ("TLS", 1), ("STLS", 2)]
        )


class HandleTests(SynchronousTestCase):
    """`Handle`"""

    def public(self) -> dict[str, object]:
        return {
            name: thing
            for name, thing in vars(Handle).items()
            if not name.startswith("_")
        }

    def test_methods_have_the_listed_signatures(self) -> None:
        methods = {
            name: re.sub(r"ahead=\d+", "ahead=...", signature(thing))
            for name, thing in self.public().items()
            if inspect.isfunction(thing)
        }
        self.assertEqual(methods, METHODS)

    def test_properties_are_the_listed_ones_and_read_only(self) -> None:
        properties = {
            name: thing
            for name, thing in self.public().items()
            if isinstance(thing, property)
        }
        self.assertEqual(sorted(properties), PROPERTIES)
        for name, thing in properties.items():
            self.assertIs(thing.fset, None, name)

    def test_handle_has_no_other_public_names(self) -> None:
        self.assertEqual(sorted(self.public()), sorted([*METHODS, *PROPERTIES]))

    def test_every_public_name_has_a_docstring(self) -> None:
        for name in self.public():
            self.assertTrue(inspect.getdoc(getattr(Handle, name)), name)

    def test_messages_returns_an_async_iterator_that_can_be_closed(self) -> None:
        for name in ("__aiter__", "__anext__", "aclose"):
            self.assertTrue(callable(getattr(Messages, name)))

    def test_handle_is_an_async_context_manager(self) -> None:
        for name in ("__aenter__", "__aexit__"):
            self.assertTrue(inspect.iscoroutinefunction(getattr(Handle, name)))


class ResultTests(SynchronousTestCase):
    """The fields of the results, in their order."""

    def test_result_tuples_have_the_listed_fields(self) -> None:
        for kind, fields in [
            (pop3connect.Stat, ("count", "size")),
            (pop3connect.Listing, ("number", "size")),
            (pop3connect.UID, ("number", "uid")),
            (pop3connect.Message, ("number", "content", "error")),
            (pop3connect.Refused, ("number", "content", "error")),
            (pop3connect.Stored, ("number", "size", "destination", "error")),
        ]:
            self.assertEqual(vars(kind)["_fields"], fields)

    def test_login_info_and_committed_have_the_listed_signatures(self) -> None:
        self.assertEqual(signature(pop3connect.LoginInfo), "(mechanism, cleartext)")
        self.assertEqual(signature(pop3connect.Committed), "(deleted)")

    def test_tls_info_has_the_listed_fields(self) -> None:
        info = pop3connect.TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", True)
        self.assertEqual(
            (info.version, info.cipher, info.verified, info.peer_certificate),
            ("TLSv1.3", "TLS_AES_256_GCM_SHA384", True, None),
        )

    def test_capabilities_have_the_listed_attributes(self) -> None:
        shown = {name for name in dir(pop3connect.Capabilities) if name[0] != "_"}
        self.assertLessEqual(
            {"sasl", "login_delay", "expire", "implementation", "known"}, shown
        )

    def test_error_classes_share_one_signature(self) -> None:
        for name in errors.__all__:
            text = signature(getattr(pop3connect, name))
            self.assertTrue(text.startswith("(message, *, "), text)
            if name in ("POP3Error", "UsageError", "ProtocolError"):
                self.assertTrue(
                    text.endswith(
                        "server=None, verb=None, number=None, remedy=None, option=None)"
                    ),
                    text,
                )

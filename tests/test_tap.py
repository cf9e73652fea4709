"""The plugin and its command line, in process and as twistd runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

import pop3connect
from pop3connect.collect.settings import PASSWORDS
from pop3connect.tap import CollectOptions, DemoOptions, Options, makeService

ROOT = str(Path(pop3connect.__file__).absolute().parent.parent)

TWISTD = "from twisted.scripts.twistd import run; run()"


def in_repository(**more: str) -> dict[str, str]:
    """Return an environment in which Python finds us."""
    path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "100", **more}


def python(
    *arguments: str, folder: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, so that it finds us installed or not."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=in_repository(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


class OptionsTests(SynchronousTestCase):
    """What can be said on the command line."""

    def demo(self, *arguments: str) -> DemoOptions:
        chosen = parsed("demo", *arguments).subOptions
        assert isinstance(chosen, DemoOptions)
        return chosen

    def refused(self, *arguments: str) -> str:
        return str(self.assertRaises(UsageError, parsed, *arguments))

    def test_default_settings_are_those_of_the_documentation(self) -> None:
        """The defaults are those of the documentation."""
        settings = self.demo().settings()
        self.assertEqual(
            (settings.port, settings.tls_port, settings.folder, settings.once),
            (1110, 1995, ".", False),
        )
        self.assertEqual(settings.accounts, {})

    def test_every_option_reaches_the_settings(self) -> None:
        """Everything that can be said arrives."""
        settings = self.demo(
            "--port=0",
            "--tls-port=65535",
            "--folder=/somewhere",
            "--once",
            "--account=ann:a:b c",
            "--account",
            "zoë:ö",
        ).settings()
        self.assertEqual(
            (settings.port, settings.tls_port, settings.folder, settings.once),
            (0, 65535, "/somewhere", True),
        )
        self.assertEqual(settings.accounts, {"ann": "a:b c", "zoë": "ö"})

    def test_bad_port_is_refused_with_the_option_named(self) -> None:
        """A bad port is refused, and the option named."""
        for option in ("--port", "--tls-port"):
            for port in ("65536", "-1", "x", "", "1.0", "\u0661", "9" * 5000):
                told = self.refused("demo", f"{option}={port}")
                self.assertTrue(told.startswith(f"{option} takes"), told)

    def test_same_port_for_both_is_refused_unless_zero(self) -> None:
        """One port cannot serve both; two free ones can be found."""
        told = self.refused("demo", "--port=1110", "--tls-port=1110")
        self.assertIn("--tls-port", told)
        self.demo("--port=0", "--tls-port=0")

    def test_bad_account_is_refused_without_showing_the_password(self) -> None:
        """A bad account is refused, without repeating what may be a password."""
        for account in (
            "nobody",
            ":hidden",
            "ann:",
            ":",
            "a b:hidden",
            "ann:hid\rden",
            "ann:hid\nden",
            "ann:hid\0den",
            "an\0n:hidden",
        ):
            told = self.refused("demo", "--account", account)
            self.assertIn("--account", told)
            self.assertNotIn("hid", told)

    def test_account_given_twice_is_refused(self) -> None:
        """An account cannot have two passwords."""
        told = self.refused("demo", "--account=ann:x", "--account=ann:y")
        self.assertIn("ann is given twice", told)

    def test_unknown_option_or_command_is_refused(self) -> None:
        """What does not exist is refused."""
        self.refused("demo", "--nonsense")
        self.refused("demo", "nonsense")
        self.assertIn("nonsense", self.refused("nonsense"))

    def test_missing_command_lists_the_commands(self) -> None:
        """Without a command, the commands are named."""
        self.assertIn("demo", self.refused())

    def test_missing_package_names_the_extra_to_install(self) -> None:
        """Without trustme or rich, the extra that brings them is named."""
        for package in ("trustme", "rich"):
            there = {
                name: module
                for name, module in sys.modules.items()
                if name.partition(".")[0] == package
            }
            for name in there:
                del sys.modules[name]
            sys.modules[package] = None  # type: ignore[assignment]
            try:
                told = self.refused("demo")
            finally:
                del sys.modules[package]
                sys.modules.update(there)
            self.assertIn(f"needs {package}, ", told)
            self.assertIn("'pop3connect[demo]'", told)

    def test_demo_service_is_created_without_listening(self) -> None:
        """The service is made, and takes no port before it is started."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            service = makeService(parsed("demo", f"--port={port}"))
        self.assertEqual(service.name, "pop3connect demo")
        self.assertFalse(service.running)


class CollectOptionsTests(SynchronousTestCase):
    """What can be said about a collector; the file itself is `test_config`'s."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.file = folder / "collect.toml"
        self.file.write_text(
            'state = "state"\nto = "box"\n'
            '[destination.box]\nkind = "maildir"\npath = "mail"\n'
            '[[account]]\nname = "ann"\nserver = "localhost"\n'
            'user = "ann"\npassword = "looking-glass"\n'
        )
        self.file.chmod(0o600)

    def collect(self, *arguments: str) -> CollectOptions:
        chosen = parsed("collect", "--config", str(self.file), *arguments).subOptions
        assert isinstance(chosen, CollectOptions)
        return chosen

    def refused(self, *arguments: str) -> str:
        return str(self.assertRaises(UsageError, parsed, "collect", *arguments))

    def ended(self, *arguments: str) -> tuple[object, str, str]:
        """Return the exit status, and what is said."""
        output, errors = StringIO(), StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            ended = self.assertRaises(SystemExit, self.collect, *arguments)
        return ended.code, output.getvalue(), errors.getvalue()

    def test_service_is_created_without_touching_the_state_folder(self) -> None:
        options = parsed("collect", "--config", str(self.file))
        service = makeService(options)
        self.assertEqual(service.name, "pop3connect collect")
        self.assertFalse(service.running)
        self.assertFalse((self.file.parent / "state").exists())

    def test_every_option_reaches_the_service(self) -> None:
        options = self.collect("--database", "sqlite:///x", "--machine=m", "--once")
        self.assertEqual(options.config.database, "sqlite:///x")
        self.assertEqual((options["machine"], options["once"]), ("m", 1))

    def test_relative_path_of_the_configuration_is_that_of_the_start(self) -> None:
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.file.parent)
        options = parsed("collect", "--config", self.file.name).subOptions
        assert isinstance(options, CollectOptions)
        # As twistd does with --rundir.
        os.chdir("/")
        self.assertEqual(options.config.folder, self.file.parent)
        self.assertEqual(options.read().file, self.file)

    def test_options_that_exclude_each_other_are_refused(self) -> None:
        config = f"--config={self.file}"
        self.assertIn("--config is missing", self.refused())
        self.assertIn("--login goes with --check", self.refused(config, "--login"))
        self.assertIn("exclude", self.refused(config, "--check", "--once"))

    def test_missing_sqlalchemy_names_the_extra_to_install(self) -> None:
        there = {
            name: module
            for name, module in sys.modules.items()
            if name.partition(".")[0] == "sqlalchemy"
        }
        self.addCleanup(sys.modules.update, there)
        self.addCleanup(sys.modules.pop, "sqlalchemy", None)
        for name in there:
            del sys.modules[name]
        sys.modules["sqlalchemy"] = None  # type: ignore[assignment]
        told = self.refused(f"--config={self.file}")
        self.assertIn("'pop3connect[collect]'", told)

    def test_configuration_that_cannot_be_used_exits_with_status_2(self) -> None:
        text = self.file.read_text()
        for addition, problem in (
            ("intervall = 1\n", "account ann: the key intervall does not exist"),
            ("interval = 0\n", "account ann: interval must be "),
            (
                '[destination.app]\nkind = "function"\ncall = "no_such_module:x"\n',
                "destination app: call: ",
            ),
        ):
            self.file.write_text(text + addition)
            for options in ((), ("--once",), ("--check",)):
                status, output, errors = self.ended(*options)
                self.assertEqual((status, output), (2, ""))
                self.assertEqual(len(errors.splitlines()), 1, errors)
                start = f"pop3connect: {self.file}: {problem}"
                self.assertTrue(errors.startswith(start), errors)
                self.assertNotIn("looking-glass", errors)
        self.file.unlink()
        status, _, errors = self.ended()
        self.assertEqual(status, 2)
        self.assertIn("cannot be read: No such file", errors)

    def test_password_is_missing_only_for_check(self) -> None:
        text = self.file.read_text()
        self.file.write_text(
            text.replace(' = "looking-glass"', '_file = "nowhere"')
            + '[[account]]\nname = "bob"\nserver = "localhost"\nuser = "bob"\n'
            'password_env = "POP3CONNECT_NO_SUCH"\n'
        )
        status, output, errors = self.ended("--check")
        self.assertEqual((status, output), (2, ""))
        # A line each.
        ann, bob = errors.splitlines()
        start = f"pop3connect: {self.file}: account "
        self.assertTrue(ann.startswith(f"{start}ann: password_file: "), ann)
        self.assertTrue(bob.startswith(f"{start}bob: password_env: "), bob)
        # The password may come later.
        self.collect()

    def test_check_of_a_good_file_exits_with_status_0_and_makes_nothing(self) -> None:
        said = f"{self.file}: 1 account(s), all good\n"
        self.assertEqual(self.ended("--check"), (0, said, ""))
        self.assertEqual(os.listdir(self.file.parent), [self.file.name])

    def test_check_counts_warnings(self) -> None:
        self.file.chmod(0o644)
        status, output, errors = self.ended("--check")
        self.assertEqual(status, 0)
        self.assertEqual(output, f"{self.file}: 1 account(s), good, 1 warning\n")
        self.assertIn(f"pop3connect: {self.file}: every user", errors)
        self.file.write_text(self.file.read_text() + 'interval = "5 s"\n')
        _, output, errors = self.ended("--check")
        self.assertEqual(output, f"{self.file}: 1 account(s), good, 2 warnings\n")
        self.assertEqual(len(errors.splitlines()), 2, errors)


class PluginTests(SynchronousTestCase):
    """The plugin: found, and light."""

    def test_plugin_is_found_by_twisted(self) -> None:
        """Twisted's own search finds it."""
        found = [
            plugin
            for plugin in getPlugins(IServiceMaker)
            if plugin.tapname == "pop3connect"
        ]
        self.assertEqual(len(found), 1)
        plugin = found[0]
        self.assertIsInstance(plugin, ServiceMaker)
        self.assertIs(plugin.options, Options)
        self.assertIs(plugin.makeService, makeService)

    def test_listing_and_help_import_no_server_and_no_reactor(self) -> None:
        """To list it imports nothing of ours, and --help no reactor, no server."""
        loaded = (
            "import sys\n"
            "from twisted.application.service import IServiceMaker\n"
            "from twisted.plugin import getPlugins\n"
            "[plugin] = [one for one in getPlugins(IServiceMaker)"
            " if one.tapname == 'pop3connect']\n"
            "def has(*names): return [n for n in names if n in sys.modules]\n"
            "print(has('pop3connect'))\n"
            "plugin.options()\n"
            "print(has('pop3connect.testing.server', 'pop3connect.demo.service',"
            " 'trustme',"
            " 'twisted.internet.reactor'))\n"
        )
        done = python("-c", loaded)
        self.assertEqual(done.stdout, "[]\n[]\n", done.stderr)

    def test_plugin_folders_contain_no_init_file(self) -> None:
        """There is no __init__.py, which would hide Twisted's own plugins."""
        for folder in ("twisted", "twisted/plugins"):
            if Path(ROOT, "twisted/plugins/pop3connect_plugin.py").exists() and not (
                Path(ROOT, "twisted/internet").exists()
            ):
                self.assertFalse(Path(ROOT, folder, "__init__.py").exists())


class TwistdTests(SynchronousTestCase):
    """In a process of its own: help, errors, exit status."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def twistd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return python("-c", TWISTD, *arguments, folder=self.folder)

    def test_twistd_help_lists_the_plugin(self) -> None:
        """``twistd --help`` lists us."""
        done = self.twistd("--help")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"\n +pop3connect +POP3 mail: ")

    def test_help_lists_commands_and_their_options(self) -> None:
        """The help tells the commands, and each command's help its options."""
        done = self.twistd("pop3connect", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"\n +demo +Serve a demo mailbox")
        self.assertIn(" pop3connect COMMAND [options]\n", done.stdout)
        done = self.twistd("pop3connect", "demo", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(" pop3connect demo [options]\n", done.stdout)
        for option in ("--port=", "--tls-port=", "--folder=", "--account=", "--once"):
            self.assertIn(option, done.stdout)
        self.assertIn("secure/cacerts/", done.stdout)
        # The documentation is not where the program is.
        done = self.twistd("pop3connect", "collect", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(" pop3connect collect --config FILE [options]\n", done.stdout)
        for word in (
            "--check",
            "--login",
            "--once",
            "--database=",
            "--machine=",
            "'state'",
            "[destination.NAME]",
            "[[account]]",
            "'name'",
            "'server'",
            "'user'",
        ):
            self.assertIn(word, done.stdout)
        for key in PASSWORDS:
            self.assertIn(f"'{key}'", done.stdout)

    def test_bad_option_is_reported_in_the_last_line(self) -> None:
        """A bad option is told in the last line."""
        # Its exit status is twistd's own, and was 0 in the oldest that we support.
        done = self.twistd("-n", "pop3connect", "demo", "--port=x")
        self.assertIn("--port takes", done.stdout.splitlines()[-1])
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_taken_port_exits_with_status_1_and_one_line_on_stderr(self) -> None:
        """A taken port is one line on stderr, and a failure, and all is cleaned up."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            done = self.twistd("-n", "pop3connect", "demo", f"--port={port}")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(
            done.stderr,
            rf"\Apop3connect demo: cannot listen on 127\.0\.0\.1 port {port}: "
            r"[^\n]* --port [^\n]*\n\Z",
        )
        self.assertNotIn("Traceback", done.stdout)
        self.assertFalse((self.folder / "twistd.pid").exists())

    def test_demo_once_exits_with_status_0_and_logs_to_given_file(self) -> None:
        """The tour with --once: exit status 0, and the log goes elsewhere if asked."""
        done = self.twistd(
            *("-n", "--logfile=log", "pop3connect", "demo", "--once"),
            *("--port=0", "--tls-port=0"),
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertTrue(done.stdout.endswith("All 6 steps worked.\n"), done.stdout)
        self.assertEqual(re.findall(r"^\d{4}-\d\d-\d\d.*", done.stdout, re.M), [])
        self.assertIn("Server Shut Down", (self.folder / "log").read_text())
        self.assertTrue((self.folder / "secure" / "cacerts").is_dir())
        self.assertFalse((self.folder / "twistd.pid").exists())

    def demo(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the demo, and leave it running."""
        process = subprocess.Popen(
            [sys.executable, "-c", TWISTD, "-n", "pop3connect", "demo", *arguments],
            cwd=self.folder,
            env=in_repository(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            # A shell lets what it starts in the background ignore Ctrl-C.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def read_until(self, process: subprocess.Popen[str], text: str) -> str:
        assert process.stdout is not None
        read = ""
        for line in process.stdout:
            read += line
            if text in line:
                return read
        raise AssertionError(f"{text!r} is not in {read!r}")

    def interrupted(self, process: subprocess.Popen[str]) -> str:
        """Return what is written after Ctrl-C."""
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(errors, "")
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertFalse((self.folder / "twistd.pid").exists())
        return output

    def test_second_demo_in_a_folder_says_what_to_do(self) -> None:
        first = self.demo("--port=0", "--tls-port=0")
        self.read_until(first, "docs/tutorial.rst")
        second = self.twistd("-n", "pop3connect", "demo")
        self.assertEqual((second.returncode, second.stdout), (1, ""))
        told = second.stderr.splitlines()
        self.assertTrue(
            told[0].startswith("pop3connect: a twistd is running in this folder: "),
            told,
        )
        self.assertIn(f"kill {first.pid}", told[0])
        # The last line is the command, and it works.
        _, *words = told[-1].split()
        third = self.twistd(*words, "--once")
        self.assertEqual((third.returncode, third.stderr), (0, ""))
        self.assertTrue((self.folder / "second" / "secure").is_dir())
        self.interrupted(first)

    def test_demo_stops_at_ctrl_c_without_traceback_or_log(self) -> None:
        during = self.demo("--port=0", "--tls-port=0")
        shown = self.read_until(during, "3. Plain") + self.interrupted(during)
        self.assertTrue(shown.startswith("pop3connect demo\n"), shown)
        self.assertNotIn("docs/tutorial.rst", shown)
        after = self.demo("--port=0", "--tls-port=0")
        self.read_until(after, "docs/tutorial.rst")
        self.assertEqual(self.interrupted(after), "")

    def test_demo_works_without_a_home_folder(self) -> None:
        for home in ("", "/nonexistent"):
            process = self.demo("--port=0", "--tls-port=0", "--once", HOME=home)
            output, errors = process.communicate(timeout=60)
            self.assertEqual((process.returncode, errors), (0, ""))
            self.assertIn("All 6 steps worked.\n", output)

"""
The URL of a proxy.
"""

from __future__ import annotations

import traceback
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError
from pop3connect.proxy import ProxyAddress, from_environment

from .support.shows import shows


class ParseTests(SynchronousTestCase):
    def test_url_is_read_into_host_port_and_credentials(self) -> None:
        for url, shown, credentials in (
            ("socks5://proxy.example.com", "socks5://proxy.example.com:1080", None),
            (
                "SOCKS5H://Proxy.example.com:9050/",
                "socks5://proxy.example.com:9050",
                None,
            ),
            ("socks5://192.0.2.1:1", "socks5://192.0.2.1:1", None),
            (" socks5://[2001:db8::1]:9050 ", "socks5://[2001:db8::1]:9050", None),
            ("socks5://ada:pw@h", "socks5://h:1080", (b"ada", b"pw")),
            ("socks5://ada@h", "socks5://h:1080", (b"ada", b"")),
            ("socks5://ada:@h", "socks5://h:1080", (b"ada", b"")),
            ("socks5://a:p:w@h", "socks5://h:1080", (b"a", b"p:w")),
            ("socks5://a%40b:p%2Fw%25@h", "socks5://h:1080", (b"a@b", b"p/w%")),
            ("socks5://ä:%C3%A4@h", "socks5://h:1080", ("ä".encode(), "ä".encode())),
            ("http://proxy.example.com", "http://proxy.example.com:80", None),
            ("HTTP://ada:p%3Aw@h:3128/", "http://h:3128", (b"ada", b"p:w")),
            ("http://:pw@h", "http://h:80", (b"", b"pw")),
            (
                f"http://{'u' * 96}:{'p' * 4000}@h",
                "http://h:80",
                (b"u" * 96, b"p" * 4000),
            ),
            (
                f"socks5://{'u' * 255}:{'p' * 255}@h",
                "socks5://h:1080",
                (b"u" * 255, b"p" * 255),
            ),
        ):
            proxy = ProxyAddress.parse(url)
            self.assertEqual(str(proxy), shown)
            self.assertEqual(proxy.credentials, credentials)

    @shows(
        "RFC 1929-01",
        "MUST",
        "User name and password have 1 to 255 bytes; a status other than 0 ends the "
        "connection.",
        "Checked before any traffic; an empty password is allowed, because proxies "
        "exist that want a name only.",
    )
    def test_other_text_is_refused_without_being_repeated(self) -> None:
        for bad, problem in (
            ("", "must be a URL such as"),
            ("hunter2.example.com:1080", "must be a URL such as"),
            ("ada:hunter2@h:1080", "%40"),
            ("socks5://ada:hunter2@@h", "%40"),
            ("socks5://ada:hunt/er2@h", "%40"),
            ("socks5://ada:hunt?er2@h", "%40"),
            ("socks5://ada:hunter2@h/path", "%40"),
            ("socks5://ada:hunter2@", "%40"),
            ("https://ada:hunter2@h", "https proxies are not supported"),
            ("socks4://ada:hunter2@h", "socks4 proxies are not supported"),
            ("socks5://ada:hunter2@h:0", "neither"),
            ("socks5://ada:hunter2@h:99999", "neither"),
            ("socks5://ada:hunter2@-h", "neither"),
            ("socks5://:hunter2@h", "1 to 255 bytes"),
            (f"socks5://{'u' * 256}:hunter2@h", "1 to 255 bytes"),
            (f"socks5://u:{'hunter2' * 37}@h", "255 bytes at most"),
            ("http://ad%3Aa:hunter2@h", "no colon (RFC 7617)"),
            ("http://ada%0d:hunter2@h", "no control characters (RFC 7617)"),
            ("http://ada:hunter2%7F@h", "no control characters (RFC 7617)"),
            (f"http://ada:{'hunter2' * 585}@h", "4,096 bytes at most"),
            (b"socks5://ada:hunter2@h", "not bytes"),
            (1080, "not int"),
        ):
            value: Any = bad
            try:
                ProxyAddress.parse(value)
            except UsageError as error:
                caught = traceback.TracebackException.from_exception(
                    error, capture_locals=True
                )
                # The first frame is that of this test.
                shown = str(error) + "".join(list(caught.format())[-20:])
                frames = caught.stack[1:]
                local = "".join(str(frame.locals) for frame in frames)
                self.assertTrue(str(error).startswith("proxy must be a URL such as"))
                self.assertIn(problem, str(error))
                self.assertNotIn("hunter2", str(error))
                self.assertNotIn("hunter2", local)
                self.assertIsNone(error.__context__)
                self.assertTrue(shown)
            else:
                self.fail(f"{bad!r} was accepted")

    def test_repr_and_str_do_not_show_the_credentials(self) -> None:
        proxy = ProxyAddress.parse("socks5://ada:hunter2@proxy")
        for shown in (repr(proxy), str(proxy), repr(proxy.credentials)):
            self.assertNotIn("hunter2", shown)
            self.assertNotIn("ada", shown)
        self.assertEqual(proxy.secrets, (b"hunter2",))
        proxy = ProxyAddress.parse("http://ada:hunter2@proxy")
        self.assertEqual(proxy.secrets, (b"hunter2", b"YWRhOmh1bnRlcjI="))
        for shown in (repr(proxy), str(proxy), repr(proxy.basic), repr(proxy.secrets)):
            self.assertNotIn("hunter2", shown)
            self.assertNotIn("YWRh", shown)
        self.assertEqual(ProxyAddress.parse("socks5://proxy").secrets, ())


class EnvironmentTests(SynchronousTestCase):
    def test_variable_in_either_spelling_is_the_proxy(self) -> None:
        for environment in (
            {"ALL_PROXY": "socks5://h"},
            {"all_proxy": "socks5://h"},
            {"ALL_PROXY": "", "all_proxy": "socks5://h"},
        ):
            self.assertEqual(from_environment(environment), "socks5://h")

    def test_missing_variable_is_a_usage_error_that_names_it(self) -> None:
        with self.assertRaises(UsageError) as caught:
            from_environment({"HTTP_PROXY": "http://h"})
        self.assertIn("ALL_PROXY is not set", str(caught.exception))

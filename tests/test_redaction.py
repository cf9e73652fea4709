"""What is shown of a session, and what is never shown."""

from __future__ import annotations

import base64
import gc
import io
import pickle
import traceback

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.redaction import (
    MASK,
    NOT_SEARCHED,
    Secret,
    SecretBytes,
    Transcript,
    encodable,
    first_line,
    hidden,
    printable,
)

from .support.shows import shows

log = Logger()

SHOWN = 512


def transcript(*secrets: bytes) -> Transcript:
    """Make a transcript that knows these secrets, without a status procedure."""
    made = Transcript(None, log)
    made.keep_secret(*secrets)
    return made


class SecretTests(SynchronousTestCase):
    """`Secret`"""

    def test_secret_is_a_str_whose_repr_is_masked(self) -> None:
        secret = Secret("hidden")
        self.assertEqual(secret, "hidden")
        self.assertIsInstance(secret, str)
        self.assertEqual(repr(secret), MASK)
        self.assertEqual(f"{secret!r} {[secret]} {secret!a}", f"{MASK} [{MASK}] {MASK}")
        self.assertEqual(secret.encode(), b"hidden")

    def test_only_a_str_is_hidden(self) -> None:
        self.assertEqual((hidden("x"), repr(hidden("x"))), ("x", MASK))
        for value in (None, 5, b"x", len):
            self.assertIs(hidden(value), value)

    def test_secret_bytes_is_masked_in_repr_and_str(self) -> None:
        secret = SecretBytes(b"hidden")
        self.assertEqual(secret, b"hidden")
        self.assertEqual(f"{secret!r} {[secret]}", f"{MASK} [{MASK}]")
        # The str of bytes is their repr: it gets into messages by mistake.
        self.assertEqual(str(secret), MASK)

    def test_traceback_with_local_variables_masks_the_secret(self) -> None:
        def log_in(password: str) -> None:
            raise ZeroDivisionError

        try:
            log_in(Secret("hidden"))
        except ZeroDivisionError as error:
            shown = traceback.TracebackException.from_exception(
                error, capture_locals=True
            )
        text = "".join(shown.format())
        self.assertIn(MASK, text)
        self.assertNotIn("password = 'hidden'", text)

    def test_pickled_secret_is_still_masked(self) -> None:
        self.assertEqual(repr(pickle.loads(pickle.dumps(Secret("hidden")))), MASK)


class PrintableTests(SynchronousTestCase):
    """`printable`"""

    def test_printable_text_is_left_unchanged(self) -> None:
        for text in ("", "+OK ready", "caf\u00e9 \u4f8b\u3048 \U0001f4ec", r"C:\new"):
            self.assertEqual(printable(text.encode("utf-8")), text)

    def test_control_and_format_characters_are_escaped(self) -> None:
        for octets, shown in [
            (b"a\r\nb", r"a\r\nb"),
            (b"a\tb\0", r"a\tb\x00"),
            (b"\x1b[2J\x07\x7f", r"\x1b[2J\x07\x7f"),
            ("\x9b2J".encode(), r"\x9b2J"),
            ("\u202egpj.exe".encode(), r"\u202egpj.exe"),
            ("\u2066\u200f\u061c".encode(), r"\u2066\u200f\u061c"),
            ("a\u200bb\ufeff".encode(), r"a\u200bb\ufeff"),
            ("\u2028\u2029\x85".encode(), r"\u2028\u2029\x85"),
            ("\U000e0041".encode(), r"\U000e0041"),
            # printable for Python, and without width or ink
            ("a\u3164\u034fb".encode(), r"a\u3164\u034fb"),
            # accents without a letter, and more than a letter can carry
            ("\u0301e\u0301".encode(), "\\u0301e\u0301"),
            (("e" + "\u0301" * 5).encode(), "e" + "\u0301" * 4 + "\\u0301"),
        ]:
            self.assertEqual(printable(octets), shown)

    def test_bytes_that_are_not_utf_8_are_escaped_one_by_one(self) -> None:
        for octets, shown in [
            (b"caf\xe9", r"caf\xe9"),
            (b"\xff\xfe", r"\xff\xfe"),
            # too long a form, a surrogate, a character cut in half
            (b"\xc0\xae", r"\xc0\xae"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            (b"\xe2\x82", r"\xe2\x82"),
        ]:
            self.assertEqual(printable(octets), shown)

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(st.binary(max_size=40))
    def test_any_bytes_become_one_printable_line(self, octets: bytes) -> None:
        shown = printable(octets)
        self.assertTrue(shown.isprintable())
        self.assertLessEqual(len(shown.splitlines()), 1)


class EncodableTests(SynchronousTestCase):
    """`encodable`"""

    def test_characters_missing_in_the_encoding_are_escaped(self) -> None:
        for encoding, shown in (
            ("utf-8", "Gr\xfc\xdfe \u4f60 \\udcff"),
            ("latin-1", "Gr\xfc\xdfe \\u4f60 \\udcff"),
            ("ascii", r"Gr\xfc\xdfe \u4f60 \udcff"),
        ):
            stream = io.TextIOWrapper(io.BytesIO(), encoding)
            text = "Gr\xfc\xdfe \u4f60 \udcff"
            self.assertEqual(encodable(text, stream), shown)
            stream.write(encodable(text, stream))
        # StringIO has no encoding.
        self.assertEqual(encodable("\xfc", io.StringIO()), r"\xfc")


class MaskTests(SynchronousTestCase):
    """Secrets in what a server says."""

    def test_a_secret_is_masked_wherever_it_stands(self) -> None:
        clean = transcript(b"s3cret").clean
        for text, shown in [
            (b"", ""),
            (b"no such user", "no such user"),
            (b"s3cret", MASK),
            (b"s3cret at the start", f"{MASK} at the start"),
            (b"at the end s3cret", f"at the end {MASK}"),
            (b"bad password 's3cret' for x", f"bad password '{MASK}' for x"),
            (b"xs3cretx", f"x{MASK}x"),
            (b"s3crets3cret", MASK * 2),
            (b"s3cret s3cret s3cre", f"{MASK} {MASK} s3cre"),
            (b"S3CRET", "S3CRET"),
        ]:
            self.assertEqual(clean(text), shown)

    def test_every_registered_form_of_a_secret_is_masked(self) -> None:
        encoded = base64.b64encode(b"\0mrose\0s3cret")
        made = transcript(b"s3cret", encoded)
        made.keep_secret(b"0123456789abcdef0123456789abcdef")
        self.assertEqual(
            made.clean(
                b"got " + encoded + b" / s3cret / 0123456789abcdef0123456789abcdef"
            ),
            f"got {MASK} / {MASK} / {MASK}",
        )

    def test_a_secret_that_holds_another_is_masked_as_a_whole(self) -> None:
        clean = transcript(b"pass", b"password", b"word").clean
        self.assertEqual(clean(b"password"), MASK)
        self.assertEqual(clean(b"passport, wordy"), f"{MASK}port, {MASK}y")

    def test_overlapping_secrets_are_both_masked(self) -> None:
        clean = transcript(b"abcdef", b"defghi").clean
        for text in (b"abcdefghi", b"abcabcdefghi", b"<defghidefabcdef>"):
            shown = clean(text)
            self.assertNotIn("abcdef", shown)
            self.assertNotIn("defghi", shown)
        self.assertNotIn("abab", transcript(b"abab").clean(b"ababab"))

    def test_a_short_secret_is_masked_as_a_word_only(self) -> None:
        for secret, text, shown in [
            (b"a", b"a", MASK),
            (b"a", b"bad a: banana", f"bad {MASK}: banana"),
            (b"a", b"a<a>a", f"{MASK}<{MASK}>{MASK}"),
            (b"in", b"login failed in vain", f"login failed {MASK} vain"),
            (b"in", b"in login", f"{MASK} login"),
            (b"in", b"bin tin-in", f"bin tin-{MASK}"),
            (b"in", b"ins a int (in)", f"ins a int ({MASK})"),
            (b"log", b"login", "login"),
            (b"ing", b"logging", "logging"),
            (b"ing", b"'ing'", f"'{MASK}'"),
            (b"1", b"2 octets of 1234, 1.", f"2 octets of 1234, {MASK}."),
        ]:
            self.assertEqual(transcript(secret).clean(text), shown, (secret, text))

    def test_secret_of_four_bytes_is_masked_within_words_too(self) -> None:
        self.assertEqual(transcript(b"pass").clean(b"compassion"), f"com{MASK}ion")

    def test_secret_of_asterisks_does_not_break_masking(self) -> None:
        for secret in (b"*", b"**", b"****", b"********", b"*********"):
            shown = transcript(secret, b"s3cret").clean(b"s3cret is " + secret)
            self.assertNotIn("s3cret", shown)
            self.assertIn(MASK, shown)

    def test_non_ascii_secrets_are_masked_before_text_is_escaped(self) -> None:
        for secret in (
            "p\u00e4ssw\u00f6rd".encode(),
            b"p\xe4ss",
            b"a\x1bbcd",
            b"\0\xff\0\xfe",
        ):
            self.assertEqual(
                transcript(secret).clean(b"<" + secret + b">"), f"<{MASK}>"
            )

    def test_empty_secret_masks_nothing(self) -> None:
        self.assertEqual(transcript(b"", b"").clean(b"as it is"), "as it is")

    def test_the_transcript_does_not_keep_the_secret_itself(self) -> None:
        """Nothing that can be reached from it has the secret in it."""
        made = transcript(b"s3cret-s3cret")
        seen, todo = set[int](), list[object]([made])
        while todo:
            thing = todo.pop()
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, (str, bytes)):
                self.assertNotIn("s3cret-s3cret", repr(thing))
            elif isinstance(thing, (dict, list, tuple, set, frozenset)) or type(
                thing
            ).__module__.startswith("pop3connect."):
                todo += gc.get_referents(thing)
        self.assertGreater(len(seen), 3)


class CutTests(SynchronousTestCase):
    """Long lines of a server are cut."""

    def test_512_bytes_are_shown_and_more_are_cut(self) -> None:
        clean = transcript().clean
        self.assertEqual(clean(b"x" * SHOWN), "x" * SHOWN)
        self.assertEqual(clean(b"x" * (SHOWN + 1)), "x" * SHOWN + "...")
        self.assertEqual(clean(b"x" * 100_000), "x" * SHOWN + "...")

    def test_a_cut_through_a_character_leaves_a_printable_line(self) -> None:
        shown = transcript().clean(b"x" * (SHOWN - 1) + "\u20ac".encode())
        self.assertEqual(shown, "x" * (SHOWN - 1) + r"\xe2" + "...")

    @shows("attack 4.2")
    def test_no_prefix_of_a_secret_is_shown_wherever_the_cut_is(self) -> None:
        """
        Masks shorten the text, so what is cut off must not move into sight.
        """
        secret = b"0123456789abcdefghij"
        transcript = Transcript(None, log)
        transcript.keep_secret(secret, b"0123456789")
        for before in range(440, 560):
            for repeated in (1, 3):
                text = secret * repeated + b"x" * before + secret + b"y" * 50
                shown = transcript.clean(text)
                for length in (4, 8):
                    self.assertNotIn(secret[:length].decode(), shown, before)

    def test_secret_across_the_cut_is_not_shown_in_part(self) -> None:
        for secret in (b"0123456789abcdefghij", b"QRST", b"\xc3\xa9t\xc3\xa9"):
            clean = transcript(secret).clean
            for before in range(SHOWN - len(secret) - 2, SHOWN + 3):
                shown = clean(b"x" * before + secret + b"y" * 20)
                self.assertEqual(shown.strip("xy.*"), "", before)

    def test_no_part_of_a_secret_is_shown_when_masks_shorten_the_line(self) -> None:
        for secret in (b"0123456789abcdefghij", b"0123456789" * 10):
            clean = transcript(secret).clean
            for before in range(SHOWN + 2):
                shown = clean(secret + b"x" * before + secret)
                self.assertEqual(shown.strip("x.*"), "", before)
            for count in range(2, 60):
                self.assertEqual(clean(secret * count).strip("*."), "", count)

    def test_no_part_of_a_secret_is_shown_when_masks_lengthen_the_line(self) -> None:
        clean = transcript(b"QRST").clean
        for count in (63, 64, 65, 127, 128, 129, 500):
            for before in range(4):
                shown = clean(b"x" * before + b"QRST" * count)
                self.assertEqual(shown.strip("x*."), "")


_WORDS = st.sampled_from([b"s3cret", b"pw", b"s3cre", b"t", b" ", b"x", b"\xc3", b"\n"])


class AnyTextTests(SynchronousTestCase):
    """Whatever a server says: no secret, and one printable line."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(
        st.lists(_WORDS, max_size=12).map(b"".join),
        st.sampled_from([b"", b"x" * 500, b"s3cret" * 80]),
    )
    def test_secrets_are_masked_in_any_text(self, text: bytes, before: bytes) -> None:
        shown = transcript(b"s3cret", b"pw").clean(before + text)
        self.assertNotIn("s3cret", shown)
        self.assertTrue(shown.isprintable())
        # as a word
        padded = f" {shown} "
        self.assertNotIn(" pw ", padded)


class TellingTests(SynchronousTestCase):
    """What the status procedure is called with."""

    def setUp(self) -> None:
        self.told: list[str] = []
        self.transcript = Transcript(self.told.append, log)

    def test_every_kind_of_line_is_formatted_with_its_prefix(self) -> None:
        self.transcript.client(f"PASS {MASK}")
        self.transcript.server(b"+OK ready")
        self.transcript.challenge()
        self.transcript.body(120)
        self.transcript.tls("TLSv1.3, verified")
        self.transcript.warning("no TLS")
        self.assertEqual(
            self.told,
            [
                f"C: PASS {MASK}",
                "S: +OK ready",
                f"S: + {MASK}",
                "S: (120 octets)",
                "TLS: TLSv1.3, verified",
                "Warning: no TLS",
            ],
        )

    def test_control_characters_of_a_user_name_are_escaped(self) -> None:
        self.transcript.client("USER ada\x1b[2J\u2028S: +OK \u202eÅda")
        self.assertEqual(self.told, ["C: USER ada\\x1b[2J\\u2028S: +OK \\u202eÅda"])

    def test_server_lines_are_masked_escaped_and_cut(self) -> None:
        self.transcript.keep_secret(b"s3cret")
        self.transcript.server(b"-ERR no s3cret\x1b[2J \xe2\x80\xae\xff" + b"x" * 600)
        (line,) = self.told
        self.assertTrue(
            line.startswith(rf"S: -ERR no {MASK}\x1b[2J \u202e\xffxxx"), line
        )
        self.assertTrue(line.endswith("xxx..."))
        self.assertTrue(line.isprintable())

    def test_secrets_of_one_session_are_not_masked_in_another(self) -> None:
        self.transcript.keep_secret(b"s3cret")
        self.assertEqual(transcript().clean(b"s3cret"), "s3cret")

    def test_listening_is_true_only_with_a_procedure(self) -> None:
        self.assertTrue(self.transcript.listening)
        self.assertFalse(transcript().listening)

    def test_transcript_without_procedure_only_cleans_text(self) -> None:
        silent = transcript(b"s3cret")
        silent.client("CAPA")
        silent.server(b"+OK")
        silent.challenge()
        silent.body(1)
        silent.tls("fact")
        silent.warning("text")
        # Server text for an exception is cleaned anyway.
        self.assertEqual(silent.clean(b"no s3cret"), f"no {MASK}")

    def test_procedure_that_raises_is_logged_once_and_called_again(self) -> None:
        def procedure(line: str) -> None:
            self.told.append(line)
            raise ZeroDivisionError(line)

        failing = Transcript(procedure, log)
        failing.client("CAPA")
        failing.server(b"+OK")
        self.assertEqual(self.told, ["C: CAPA", "S: +OK"])
        logged = self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual([str(each.value) for each in logged], ["C: CAPA"])

    def test_return_value_of_the_procedure_is_ignored(self) -> None:
        Transcript(lambda line: 1 / 1, log).client("CAPA")
        Transcript(len, log).client("CAPA")
        self.assertEqual(self.flushLoggedErrors(), [])


class WorkTests(SynchronousTestCase):
    """A server chooses the length and the number of its lines."""

    def test_text_without_the_rarest_byte_of_a_secret_costs_no_hash(self) -> None:
        bounded = Transcript(None, log, max_hashes=0)
        bounded.keep_secret(b"open-sesame")
        line = b"open sesame " * 40
        self.assertEqual(bounded.clean(line), line.decode())

    def test_text_is_not_shown_any_more_when_the_work_is_used_up(self) -> None:
        bounded = Transcript(None, log, max_hashes=100)
        bounded.keep_secret(b"s3cret-word")
        self.assertEqual(bounded.clean(b"no s3cret-word"), f"no {MASK}")
        for _ in range(10):
            shown = bounded.clean(b"a-" * 200)
        self.assertEqual(shown, NOT_SEARCHED.decode())
        self.assertEqual(bounded.clean(b"no s3cret-word"), NOT_SEARCHED.decode())

    def test_secret_is_masked_wherever_its_rarest_byte_is(self) -> None:
        for secret in (b"-ab", b"a-b", b"ab-", b"eeee", b"e e e", b"\xff\x00"):
            bounded = transcript(secret)
            for text in (
                secret,
                b"x " + secret,
                secret + b" y",
                b"x " + secret + b" y",
            ):
                shown = bounded.clean(text)
                self.assertEqual(shown.count(MASK), 1, (secret, text, shown))

    def test_secret_that_stands_twice_is_masked_twice(self) -> None:
        shown = transcript(b"ab-ab").clean(b"ab-ab ab-ab-ab")
        self.assertEqual(shown, f"{MASK} {MASK}-ab")
        self.assertEqual(transcript(b"a--a").clean(b"a--a--a"), f"{MASK}--a")


class FirstLineTests(SynchronousTestCase):
    """`first_line`"""

    def test_password_ends_at_the_first_lf_and_at_nothing_else(self) -> None:
        for odd in ("\v", "\f", "\x1c", "\x85", "\u2028", "\r", " ", "\t"):
            password = f"open{odd}sesame"
            for text in (password, f"{password}\n", f"{password}\r\nuser: ada\n"):
                self.assertEqual(first_line(text), password, repr(odd))
        self.assertEqual(first_line("\nsesame"), "")

    def test_password_is_not_shown_by_repr(self) -> None:
        self.assertEqual(repr(first_line("sesame\n")), MASK)

"""
Hashes of messages: what changes on the way from a server does not count, all else does.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.content import (
    KEY_LENGTH,
    BodyHash,
    content_of,
    key_of,
    unused_key,
    whole_content_of,
)
from pop3connect.collect.records import Content

HEADER = (
    b"Message-ID: <1@example.org>\r\n"
    b"Date: Mon, 1 Jan 2024 10:00:00 +0000\r\n"
    b"From: Ada <ada@example.org>\r\n"
    b"Subject: A long\r\n subject\r\n"
)


def body_hash(*pieces: bytes) -> str:
    body = BodyHash()
    for piece in pieces:
        body.update(piece)
    return body.hexdigest()


class HeaderHashTests(SynchronousTestCase):
    def test_header_and_whole_message_have_one_hash(self) -> None:
        message = HEADER + b"\r\nSubject: not a field\r\n"
        self.assertEqual(content_of(HEADER), content_of(message))
        self.assertEqual(content_of(HEADER).body, "")

    def test_folding_blanks_line_ends_and_case_of_names_do_not_count(self) -> None:
        same = (
            b"FROM:\tAda  <ada@example.org>\nSubject: A long subject \n"
            b"DATE: Mon, 1 Jan 2024\n 10:00:00 +0000\nmessage-id:<1@example.org>\n"
        )
        self.assertEqual(content_of(same), content_of(HEADER))

    def test_other_fields_do_not_count(self) -> None:
        same = b"Received: from elsewhere\r\nStatus: RO\r\n" + HEADER + b"X-UIDL: 1\r\n"
        self.assertEqual(content_of(same), content_of(HEADER))

    def test_first_of_repeated_fields_counts(self) -> None:
        same = HEADER + b"Subject: Another\r\n"
        self.assertEqual(content_of(same), content_of(HEADER))

    def test_each_of_the_four_fields_counts(self) -> None:
        hashes = {content_of(HEADER).header}
        for old, new in (
            (b"<1@", b"<2@"),
            (b"10:00", b"10:01"),
            (b"Ada", b"Bob"),
            (b"long", b"short"),
        ):
            hashes.add(content_of(HEADER.replace(old, new)).header)
        self.assertEqual(len(hashes), 5)

    def test_value_in_another_field_is_another_header(self) -> None:
        self.assertNotEqual(content_of(b"From: a\n"), content_of(b"Subject: a\n"))

    def test_message_id_identifies_unless_it_is_blank(self) -> None:
        self.assertTrue(content_of(HEADER).identified)
        self.assertFalse(content_of(b"Message-ID: \r\nSubject: a\r\n").identified)
        self.assertFalse(content_of(b"").identified)


class BodyHashTests(SynchronousTestCase):
    def test_header_does_not_count(self) -> None:
        self.assertEqual(
            body_hash(b"Status: RO\r\n" + HEADER + b"\r\nbody\r\n"),
            body_hash(HEADER + b"\r\nbody\r\n"),
        )

    def test_body_counts(self) -> None:
        self.assertNotEqual(
            body_hash(HEADER + b"\r\nbody\r\n"), body_hash(HEADER + b"\r\nBody\r\n")
        )

    def test_message_that_begins_with_a_blank_line_has_no_header(self) -> None:
        self.assertEqual(body_hash(b"\r\na\r\n\r\nb"), body_hash(b"H: 1\n\na\n\nb"))

    def test_message_without_a_body_has_the_hash_of_nothing(self) -> None:
        self.assertEqual(body_hash(HEADER), body_hash())
        self.assertEqual(body_hash(HEADER), body_hash(HEADER + b"\r\n"))

    @given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"\r", b"A: b\n"])))
    def test_pieces_and_line_ends_do_not_count(self, parts: list[bytes]) -> None:
        message = b"".join(parts)
        whole = body_hash(message.replace(b"\r", b""))
        self.assertEqual(body_hash(message), whole)
        self.assertEqual(body_hash(*parts), whole)
        self.assertEqual(body_hash(*(bytes([byte]) for byte in message)), whole)

    def test_whole_content_has_both_hashes(self) -> None:
        message = HEADER + b"\r\nbody\r\n"
        self.assertEqual(
            whole_content_of(message),
            Content(content_of(HEADER).header, True, body_hash(message)),
        )


class KeyTests(SynchronousTestCase):
    def test_key_never_changes(self) -> None:
        # Destinations have stored keys: this value is fixed.
        self.assertEqual(
            key_of("support", "u1", "ab" * 32), "293cb656ec930a43c4bf732f50908352"
        )

    def test_account_identity_and_header_count(self) -> None:
        keys = {
            key_of("a", "u", "h"),
            key_of("b", "u", "h"),
            key_of("a", "v", "h"),
            key_of("a", "u", "i"),
            key_of("au", "", "h"),
        }
        self.assertEqual(len(keys), 5)
        self.assertEqual({len(key) for key in keys}, {KEY_LENGTH})

    def test_reused_uid_with_another_header_has_another_key(self) -> None:
        first = unused_key("a", "1", 500, Content("h"), set())
        self.assertNotEqual(unused_key("a", "1", 500, Content("i"), {first}), first)

    def test_key_is_the_same_after_the_journal_was_restored(self) -> None:
        for uid in ("u1", ""):
            content = Content("h", True, "b")
            self.assertEqual(
                unused_key("a", uid, 500, content, {"another"}),
                unused_key("a", uid, 500, content, set()),
            )

    def test_uid_makes_the_key_whatever_else_was_read(self) -> None:
        self.assertEqual(
            unused_key("a", "u", 5, Content("h", True, "b"), set()),
            unused_key("a", "u", 6, Content("h"), set()),
        )

    def test_equal_messages_without_uids_have_different_keys(self) -> None:
        used: set[str] = set()
        for _ in range(3):
            used.add(unused_key("a", "", 500, Content("h", True, "b"), used))
        self.assertEqual(len(used), 3)

    def test_without_uid_the_body_tells_apart_and_without_body_the_size(self) -> None:
        keys = {
            unused_key("a", "", 500, Content("h", True, "b"), set()),
            unused_key("a", "", 500, Content("h", True, "c"), set()),
            unused_key("a", "", 500, Content("h"), set()),
            unused_key("a", "", 501, Content("h"), set()),
            unused_key("a", "", 500, None, set()),
        }
        self.assertEqual(len(keys), 5)

    def test_account_names_may_hold_any_characters(self) -> None:
        self.assertEqual(len(key_of("b\u00fcro \udc80", "\u20ac", "")), KEY_LENGTH)

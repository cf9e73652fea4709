"""
Which message is which: a listing compared with what is known, case by case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect.collect.content import whole_content_of
from pop3connect.collect.identity import (
    HELD_KNOWN,
    HELD_NEW,
    HELD_USUAL,
    Identified,
    KnownMessage,
    Remembered,
    identify,
    identify_steps,
)
from pop3connect.collect.inventory import (
    UNSTABLE_LOOKS,
    Inventory,
    take_inventory,
    take_inventory_steps,
)
from pop3connect.collect.records import AccountRow, Content, MessageRow
from pop3connect.collect.steps import SLICE, Steps
from pop3connect.results import UID, Listing, Stat

ACCOUNT = AccountRow(
    1, "ada", "pop.example.org", "ada", uids_seen=True, looked_at=1.0, listed=2
)

RowT = TypeVar("RowT", bound=KnownMessage)
T = TypeVar("T")


@attrs.frozen
class Mail:
    """A message on the server, and what is remembered of it."""

    name: str
    uid: str
    size: int = 500
    message_id: bool = True
    body: str = ""

    @property
    def content(self) -> Content:
        lines = [f"Subject: {self.name}", "", f"the body of {self.name} {self.body}"]
        if self.message_id:
            lines.insert(0, f"Message-ID: <{self.name}@example.org>")
        return whole_content_of("\r\n".join(lines).encode())

    @property
    def row(self) -> Remembered:
        """What is known after it was retrieved."""
        return Remembered(
            uid=self.uid,
            size=self.size,
            header_hash=self.content.header,
            body_hash=self.content.body,
            identified=self.content.identified,
        )

    @property
    def seen(self) -> Remembered:
        """What is known after only its header was read."""
        return attrs.evolve(self.row, body_hash="")

    @property
    def deleted(self) -> Remembered:
        """What is known after its deletion was confirmed."""
        return attrs.evolve(self.row, deleted_at=1.0)

    @property
    def unreadable(self) -> Remembered:
        """What is known if it never could be read."""
        return Remembered(self.uid, self.size)

    def but(self, **changes: object) -> Mail:
        return attrs.evolve(self, **changes)  # type: ignore[arg-type]


A = Mail("a", "u1")
B = Mail("b", "u2", size=600)
C = Mail("c", "u3", size=700)


def inventory_of(*mails: Mail, account: AccountRow | None = ACCOUNT) -> Inventory:
    """List messages, all of which have a row in UIDL."""
    sizes = [Listing(number, mail.size) for number, mail in enumerate(mails, 1)]
    uids = [UID(number, mail.uid) for number, mail in enumerate(mails, 1)]
    return take_inventory(Stat(len(mails), 0), sizes, uids, account)


def header_of(mail: Mail) -> Content:
    return attrs.evolve(mail.content, body="")


class IdentityTestCase(SynchronousTestCase):
    """Compares listings, and counts what had to be read for that."""

    def look(
        self,
        mails: Iterable[Mail],
        rows: Iterable[RowT],
        account: AccountRow | None = ACCOUNT,
        inventory: Inventory | None = None,
        all_headers: bool = False,
    ) -> Identified[RowT]:
        """
        Compare as the collector does, until all is decided.

        ``self.headers`` and ``self.bodies`` are the numbers that were read.
        """
        mails = tuple(mails)
        if inventory is None:
            inventory = inventory_of(*mails, account=account)
        found = identify(inventory, rows, account, all_headers=all_headers)
        return self.read(found, mails)

    def read(self, found: Identified[RowT], mails: Iterable[Mail]) -> Identified[RowT]:
        self.headers: set[int] = set()
        self.bodies: set[int] = set()
        listed = dict(enumerate(mails, 1))
        for _ in range(5):
            if found.decided:
                break
            self.headers |= found.headers
            self.bodies |= found.bodies
            contents: dict[int, Content | None] = {
                number: header_of(listed[number]) for number in found.headers
            }
            for number in found.bodies:
                contents[number] = listed[number].content
            found = found.compared(contents)
        self.assertTrue(found.decided)
        return found

    def assert_read(self, headers: set[int] = set(), bodies: set[int] = set()) -> None:  # noqa: B006
        self.assertEqual((self.headers, self.bodies), (headers, bodies))

    def assert_found(
        self,
        found: Identified[RowT],
        known: Mapping[int, RowT],
        new: Iterable[int] = (),
        absent: Iterable[RowT] = (),
    ) -> None:
        self.assertEqual(
            (found.known, found.new, found.absent), (known, tuple(new), tuple(absent))
        )
        self.assertEqual((found.unread, found.held), (frozenset(), ""))


class UniqueIdTests(IdentityTestCase):
    def test_first_look_finds_everything_new_without_reading(self) -> None:
        found = self.look([A, B], list[Remembered](), None)
        self.assert_found(found, {}, new=[1, 2])
        self.assert_read()

    def test_known_uids_of_the_same_size_are_known_without_reading(self) -> None:
        found = self.look([B, A, C], [A.row, B.row])
        self.assert_found(found, {1: B.row, 2: A.row}, new=[3])
        self.assertEqual((found.renamed, found.resized, found.returned), ({}, {}, {}))
        self.assert_read()

    def test_missing_messages_are_absent(self) -> None:
        found = self.look([B], [A.row, B.row, C.deleted])
        self.assert_found(found, {1: B.row}, absent=[A.row, C.deleted])

    def test_overlong_uids_are_recognised(self) -> None:
        long = A.but(uid="u" * 200)
        uid = inventory_of(long).uids[1]
        row = attrs.evolve(A.row, uid=uid)
        found = self.look([long, B], [row])
        self.assert_found(found, {1: row}, new=[2])
        self.assert_read()

    def test_message_that_was_never_readable_is_known_by_uid_and_size(self) -> None:
        found = self.look([A], [A.unreadable])
        self.assert_found(found, {1: A.unreadable})
        self.assert_read()

    def test_message_that_was_never_readable_is_new_with_another_size(self) -> None:
        found = self.look([A.but(size=501), B], [A.unreadable, B.row])
        self.assert_found(found, {2: B.row}, new=[1], absent=[A.unreadable])
        self.assert_read()

    def test_rows_of_the_journal_are_accepted(self) -> None:
        row = MessageRow(7, 1, "key", "u1", 500, header_hash=A.content.header)
        found = self.look([A], [row])
        self.assertEqual(found.known[1].id, 7)


class SizeDiffersTests(IdentityTestCase):
    """A known UID whose size differs."""

    def test_same_header_is_the_same_message(self) -> None:
        found = self.look([A.but(size=501), B], [A.row, B.row])
        self.assert_found(found, {1: A.row, 2: B.row})
        self.assertEqual(found.resized, {1: A.row})
        self.assertEqual(found.renamed, {})
        self.assert_read(headers={1})

    def test_other_header_is_new_and_the_known_message_absent(self) -> None:
        found = self.look([C.but(uid="u1"), B], [A.row, B.row])
        self.assert_found(found, {2: B.row}, new=[1], absent=[A.row])
        # TOP alone is not believed.
        self.assert_read(headers={1}, bodies={1})

    def test_other_header_is_matched_by_content(self) -> None:
        found = self.look([C.but(uid="u1"), B], [A.row, B.row, C.row])
        self.assert_found(found, {1: C.row, 2: B.row}, absent=[A.row])
        self.assertEqual(found.renamed, {1: C.row})

    def test_swapped_uids_are_swapped_back_by_content(self) -> None:
        found = self.look([A.but(uid="u2"), B.but(uid="u1")], [A.row, B.row])
        self.assert_found(found, {1: A.row, 2: B.row})
        self.assertEqual(found.renamed, {1: A.row, 2: B.row})

    def test_same_header_without_message_id_needs_the_body(self) -> None:
        old = A.but(message_id=False)
        found = self.look([old.but(size=501)], [old.row])
        self.assert_found(found, {1: old.row})
        self.assert_read(headers={1}, bodies={1})

        found = self.look([old.but(size=501, body="other")], [old.row])
        self.assert_found(found, {}, new=[1], absent=[old.row])

    def test_header_without_message_id_is_too_little_if_the_body_is_unknown(
        self,
    ) -> None:
        old = A.but(message_id=False)
        found = self.look([old.but(size=501)], [old.seen])
        self.assert_found(found, {}, new=[1], absent=[old.seen])

    def test_uid_reused_while_the_old_message_is_kept_stays_apart_later(self) -> None:
        reused = C.but(uid="u1")
        rows = [A.row, B.row, reused.row]
        found = self.look([reused, B], rows)
        self.assert_found(found, {1: reused.row, 2: B.row}, absent=[A.row])
        self.assert_read()

    def test_two_rows_of_one_uid_and_size_are_told_apart_by_header(self) -> None:
        other = C.but(uid="u1", size=A.size)
        for mail in (A, other):
            found = self.look([mail, B], [A.row, other.row, B.row])
            self.assertEqual(found.known[1], mail.row)
            self.assert_read(headers={1})

    def test_message_without_a_readable_row_is_the_unreadable_one_of_its_uid(
        self,
    ) -> None:
        other = C.but(uid="u1", size=A.size)
        found = self.look([other, B], [A.row, other.unreadable, B.row])
        self.assert_found(found, {1: other.unreadable, 2: B.row}, absent=[A.row])

    def test_size_and_header_are_too_little_if_several_rows_have_the_header(
        self,
    ) -> None:
        copy = A.but(uid="u9", size=540, body="footer")
        rows = [A.row, copy.row]
        # The two have changed their unique-ids.
        mails = [copy.but(uid="u1"), A.but(uid="u9")]
        found = self.look(mails, rows)
        self.assert_found(found, {1: copy.row, 2: A.row})
        self.assert_read(headers={1, 2}, bodies={1, 2})

    def test_header_that_cannot_be_read_is_taken_from_the_message(self) -> None:
        mail = A.but(size=501)
        found = identify(inventory_of(mail, B), [A.row, B.row], ACCOUNT)
        found = found.compared({1: None})
        self.assertEqual((found.headers, found.bodies), (frozenset(), {1}))
        found = found.compared({1: mail.content})
        self.assert_found(found, {1: A.row, 2: B.row})

    def test_message_that_cannot_be_read_is_neither_known_nor_new_nor_absent(
        self,
    ) -> None:
        found = identify(inventory_of(A.but(size=501), B), [A.row, B.row, C.row])
        found = found.compared({1: None}).compared({1: None})
        self.assertTrue(found.decided)
        self.assertEqual(found.unread, {1})
        self.assertEqual((found.known, found.new), ({2: B.row}, ()))
        self.assertEqual(found.absent, (C.row,))


class DeletedTests(IdentityTestCase):
    """A UID comes back after its deletion was confirmed."""

    def test_other_header_is_a_new_message_whatever_the_size(self) -> None:
        for size in (A.size, 501):
            found = self.look([C.but(uid="u1", size=size), B], [A.deleted, B.row])
            self.assert_found(found, {2: B.row}, new=[1], absent=[A.deleted])
            self.assert_read(headers={1}, bodies={1})

    def test_same_header_is_the_same_message_whatever_the_size(self) -> None:
        for size in (A.size, 501):
            found = self.look([A.but(size=size), B], [A.deleted, B.row])
            self.assert_found(found, {1: A.deleted, 2: B.row})
            self.assertEqual(found.returned, {1: A.deleted})
            self.assert_read(headers={1})

    def test_same_header_without_message_id_needs_the_body(self) -> None:
        old = A.but(message_id=False)
        found = self.look([old], [old.deleted])
        self.assert_found(found, {1: old.deleted})
        self.assert_read(headers={1}, bodies={1})
        found = self.look([old.but(body="other")], [old.deleted])
        self.assert_found(found, {}, new=[1], absent=[old.deleted])

    def test_reused_uid_is_recognised_later_without_reading(self) -> None:
        reused = C.but(uid="u1")
        found = self.look([reused], [A.deleted, reused.row])
        self.assert_found(found, {1: reused.row}, absent=[A.deleted])
        self.assert_read()

    def test_uid_reused_twice_is_compared_with_both(self) -> None:
        second = C.but(uid="u1")
        third = B.but(uid="u1")
        found = self.look([third], [A.deleted, second.deleted])
        self.assert_found(found, {}, new=[1], absent=[A.deleted, second.deleted])
        found = self.look([second], [A.deleted, second.deleted])
        self.assert_found(found, {1: second.deleted}, absent=[A.deleted])

    def test_all_of_a_mailbox_that_is_emptied_each_time_is_new_without_reading(
        self,
    ) -> None:
        found = self.look([B, C], [A.deleted])
        self.assert_found(found, {}, new=[1, 2], absent=[A.deleted])
        self.assertEqual(found.uids_changed, 0)
        self.assert_read()

    def test_second_copy_of_a_deleted_message_is_new(self) -> None:
        # By way of a mailing list: the same header, other Received fields.
        copy = A.but(uid="u9", size=533, body="footer")
        found = self.look([copy], [A.deleted])
        self.assert_found(found, {}, new=[1], absent=[A.deleted])
        same_size = copy.but(size=A.size)
        found = self.look([same_size], [A.deleted])
        self.assert_found(found, {}, new=[1], absent=[A.deleted])
        self.assert_read(headers={1}, bodies={1})

    def test_deleted_message_that_is_restored_with_another_uid_is_recognised(
        self,
    ) -> None:
        found = self.look([A.but(uid="u9"), B], [A.deleted, B.row])
        self.assert_found(found, {1: A.deleted, 2: B.row})
        self.assertEqual(found.returned, {1: A.deleted})
        self.assertEqual(found.renamed, {1: A.deleted})

    def test_equal_report_without_message_id_is_new_under_another_uid(self) -> None:
        old = A.but(message_id=False)
        for uid in ("u9", ""):
            report = old.but(uid=uid)
            found = self.look([report, B], [old.deleted, B.row])
            self.assert_found(found, {2: B.row}, new=[1], absent=[old.deleted])
            self.assert_read()

    def test_uid_of_a_deleted_message_whose_header_others_have_needs_the_body(
        self,
    ) -> None:
        copy = A.but(uid="u9", size=540, body="footer")
        rows = [A.deleted, copy.row]
        found = self.look([A.but(size=501), copy], rows)
        self.assert_found(found, {1: A.deleted, 2: copy.row})
        self.assert_read(headers={1}, bodies={1})
        found = self.look([A.but(body="another"), copy], rows)
        self.assert_found(found, {2: copy.row}, new=[1], absent=[A.deleted])

    def test_message_that_is_kept_comes_before_a_deleted_one(self) -> None:
        kept = A.but(uid="u9")
        found = self.look([A.but(uid="u5"), B], [A.deleted, kept.row, B.row])
        self.assert_found(found, {1: kept.row, 2: B.row}, absent=[A.deleted])

    def test_deleted_row_without_a_header_is_passed_over(self) -> None:
        gone = attrs.evolve(A.unreadable, deleted_at=1.0)
        found = self.look([A, B], [gone, B.row])
        self.assert_found(found, {2: B.row}, new=[1], absent=[gone])


class AllNewTests(IdentityTestCase):
    """All UIDs are new: the mailbox was moved, or its store restored."""

    def test_messages_of_the_same_size_take_the_new_uids(self) -> None:
        moved = [A.but(uid="n1"), B.but(uid="n2"), C.but(uid="n3"), Mail("d", "n4")]
        rows = [A.row, B.row, C.row]
        found = self.look(moved, rows)
        self.assert_found(found, dict(enumerate(rows, 1)), new=[4])
        self.assertEqual(found.renamed, dict(enumerate(rows, 1)))
        self.assert_read(headers={1, 2, 3, 4})

    def test_message_whose_header_was_seen_at_the_first_look_is_recognised(
        self,
    ) -> None:
        first = self.look([A, B], list[Remembered](), None, all_headers=True)
        self.assertEqual(first.new, (1, 2))
        self.assert_read(headers={1, 2})
        rows = [
            Remembered(mail.uid, mail.size, first.contents[number].header)
            for number, mail in enumerate([A, B], 1)
        ]
        self.assertEqual(rows, [A.seen, B.seen])
        found = self.look([A.but(uid="n1"), B.but(uid="n2")], rows)
        self.assert_found(found, {1: A.seen, 2: B.seen})

    def test_header_that_cannot_be_read_at_the_first_look_is_done_without(
        self,
    ) -> None:
        found = identify(inventory_of(A, B), list[Remembered](), all_headers=True)
        found = found.compared({1: None, 2: header_of(B)})
        self.assertTrue(found.decided)
        self.assertEqual(found.new, (1, 2))
        self.assertEqual(set(found.contents), {2})

    def test_other_sizes_are_compared_if_no_uid_is_known(self) -> None:
        mails = [Mail(name, name, 500 + ord(name)) for name in "abcd"]
        moved = [mail.but(uid=f"n{mail.uid}", size=mail.size + 9) for mail in mails]
        rows = [mail.row for mail in mails]
        account = attrs.evolve(ACCOUNT, listed=4)
        found = self.look(moved, rows, account)
        self.assert_found(found, dict(enumerate(rows, 1)))
        self.assertEqual(found.renamed, found.known)
        self.assertEqual(found.resized, found.known)
        self.assert_read(headers={1, 2, 3, 4})

    def test_other_sizes_and_bodies_are_recognised_by_header(self) -> None:
        # Such as by a server that writes the MIME structure again.
        mails = [Mail(name, name, 500 + ord(name)) for name in "abcd"]
        moved = [
            mail.but(uid=f"n{mail.uid}", size=mail.size + 9, body="again")
            for mail in mails
        ]
        rows = [mail.row for mail in mails]
        for account in (attrs.evolve(ACCOUNT, listed=4), None):
            found = self.look(moved, rows, account)
            self.assert_found(found, dict(enumerate(rows, 1)))

    def test_messages_seen_by_header_are_recognised_with_other_sizes(self) -> None:
        mails = [Mail(name, name, 500 + ord(name)) for name in "abcd"]
        moved = [mail.but(uid=f"n{mail.uid}", size=mail.size + 9) for mail in mails]
        rows = [mail.seen for mail in mails]
        found = self.look(moved, rows, attrs.evolve(ACCOUNT, listed=4))
        self.assert_found(found, dict(enumerate(rows, 1)))

    def test_several_rows_with_one_header_are_told_apart_by_body(self) -> None:
        mails = [
            Mail("a", "u1", 500),
            Mail("a", "u2", 520, body="footer"),
            Mail("b", "u3", 600),
            Mail("c", "u4", 700),
        ]
        moved = [mail.but(uid=f"n{mail.uid}", size=mail.size + 9) for mail in mails]
        rows = [mail.row for mail in mails]
        found = self.look(moved[::-1], rows, attrs.evolve(ACCOUNT, listed=4))
        self.assert_found(found, dict(enumerate(rows[::-1], 1)))
        self.assert_read(headers={1, 2, 3, 4}, bodies={3, 4})

    def test_message_without_message_id_is_told_by_its_body(self) -> None:
        old = A.but(message_id=False)
        same = old.but(uid="n1")
        found = self.look([same], [old.row])
        self.assert_found(found, {1: old.row})
        self.assert_read(headers={1}, bodies={1})
        found = self.look([same.but(size=501)], [old.row])
        self.assert_found(found, {1: old.row})
        found = self.look([same.but(body="other")], [old.row])
        self.assert_found(found, {}, new=[1], absent=[old.row])

    def test_message_without_message_id_seen_by_header_needs_the_same_size(
        self,
    ) -> None:
        old = A.but(message_id=False)
        found = self.look([old.but(uid="n1")], [old.seen])
        self.assert_found(found, {1: old.seen})
        found = self.look([old.but(uid="n1", size=501)], [old.seen])
        self.assert_found(found, {}, new=[1], absent=[old.seen])

    def test_few_messages_of_the_same_size_need_the_body_too(self) -> None:
        copy = A.but(uid="n1", body="footer")
        found = self.look([copy, B], [A.row, B.row])
        self.assert_found(found, {2: B.row}, new=[1], absent=[A.row])
        self.assert_read(headers={1}, bodies={1})
        found = self.look([copy, B], [A.seen, B.row])
        self.assert_found(found, {1: A.seen, 2: B.row})

    def test_second_copy_among_many_is_told_apart_if_both_are_known(self) -> None:
        mails = [Mail(name, name, 500 + ord(name)) for name in "abcd"]
        copy = mails[0].but(uid="e", size=700, body="footer")
        other = copy.but(uid="ne", body="another footer")
        rows = [*(mail.row for mail in mails), copy.row]
        moved = [mail.but(uid=f"n{mail.uid}") for mail in mails]
        found = self.look([*moved, other], rows, attrs.evolve(ACCOUNT, listed=5))
        self.assertEqual((found.new, found.absent), ((5,), (copy.row,)))
        # The same with other sizes.
        moved = [mail.but(size=mail.size + 9) for mail in moved]
        found = self.look(
            [*moved, other.but(size=800)], rows, attrs.evolve(ACCOUNT, listed=5)
        )
        self.assertEqual((found.new, found.absent), ((5,), (copy.row,)))

    def test_second_copy_is_not_one_of_two_equal_messages(self) -> None:
        others = [Mail(name, name, 600 + ord(name)) for name in "bcd"]
        rows = [A.row, A.but(uid="u9").row, *(mail.row for mail in others)]
        copy = A.but(uid="n8", size=700, body="footer")
        moved = [mail.but(uid=f"n{mail.uid}", size=mail.size + 9) for mail in others]
        mails = [A.but(uid="n1", size=509), copy, *moved]
        found = self.look(mails, rows, attrs.evolve(ACCOUNT, listed=5))
        self.assertEqual((found.known[1], found.new), (rows[0], (2,)))
        self.assertEqual(found.absent, (rows[1],))

    def test_header_without_message_id_is_too_little_in_a_move_too(self) -> None:
        mails = [Mail(name, name, 500 + ord(name)) for name in "abc"]
        nameless = Mail("d", "u4", 800, message_id=False)
        moved = [
            mail.but(uid=f"n{mail.uid}", size=mail.size + 9)
            for mail in (*mails, nameless)
        ]
        rows = [*(mail.row for mail in mails), nameless.seen]
        found = self.look(moved, rows, attrs.evolve(ACCOUNT, listed=4))
        self.assertEqual(len(found.known), 3)
        self.assertEqual((found.new, found.absent), ((4,), (nameless.seen,)))

    def test_bodies_are_asked_for_after_all_headers_are_known(self) -> None:
        moved = [A.but(uid="n1"), B.but(uid="n2"), C.but(uid="n3")]
        found = identify(inventory_of(*moved), [A.row, B.row, C.row], ACCOUNT)
        found = found.compared({1: header_of(A), 2: header_of(B)})
        self.assertEqual((found.headers, found.bodies), ({3}, frozenset()))
        found = found.compared({3: header_of(C)})
        self.assertEqual((found.decided, len(found.known)), (True, 3))

    def test_few_messages_of_other_sizes_need_the_body(self) -> None:
        # One message left, and it has the header of a known one: more likely a second
        # copy of it, by way of a mailing list, than another server.
        copy = A.but(uid="n1", size=533, body="footer")
        found = self.look([copy], [A.row])
        self.assert_found(found, {}, new=[1], absent=[A.row])
        self.assert_read(headers={1}, bodies={1})
        found = self.look([A.but(uid="n1", size=533)], [A.row])
        self.assert_found(found, {1: A.row})
        found = self.look([copy], [A.seen])
        self.assert_found(found, {}, new=[1], absent=[A.seen])

    def test_half_of_the_mailbox_must_be_recognised_to_go_without_bodies(self) -> None:
        mails = [Mail(name, name, 500 + ord(name)) for name in "abcdefgh"]
        copies = [
            mail.but(uid=f"n{mail.uid}", size=mail.size + 9, body="footer")
            for mail in mails[:3]
        ]
        rows = [mail.row for mail in mails]
        account = attrs.evolve(ACCOUNT, listed=8)
        found = self.look(copies, rows, account)
        self.assert_found(found, {}, new=[1, 2, 3], absent=rows)
        self.assert_read(headers={1, 2, 3}, bodies={1, 2, 3})

    def test_other_sizes_are_not_compared_if_a_uid_is_known(self) -> None:
        found = self.look([A.but(uid="n1", size=501), B], [A.row, B.row])
        self.assert_found(found, {2: B.row}, new=[1], absent=[A.row])
        self.assert_read()

    def test_new_uid_of_the_same_size_is_compared_if_others_are_known(self) -> None:
        found = self.look([A.but(uid="n1"), B], [A.row, B.row])
        self.assert_found(found, {1: A.row, 2: B.row})
        found = self.look([C.but(uid="n1", size=A.size), B], [A.row, B.row])
        self.assert_found(found, {2: B.row}, new=[1], absent=[A.row])

    def test_uid_whose_size_differs_counts_as_known(self) -> None:
        # The other message is not compared with rows of other sizes.
        found = self.look(
            [A.but(size=501), C.but(uid="n3", size=701)], [A.row, B.row, C.row]
        )
        self.assert_found(found, {1: A.row}, new=[2], absent=[B.row, C.row])
        self.assert_read(headers={1})

    def test_known_messages_that_are_listed_are_not_compared(self) -> None:
        found = self.look([A, A.but(uid="n1")], [A.row])
        self.assert_found(found, {1: A.row}, new=[2])
        self.assert_read()

    def test_body_that_cannot_be_read_leaves_the_message_undecided(self) -> None:
        copy = A.but(uid="n1", size=533)
        found = identify(inventory_of(copy), [A.row], ACCOUNT)
        found = found.compared({1: header_of(copy)})
        self.assertEqual(found.bodies, {1})
        for answer in (None, header_of(copy)):
            last = found.compared({1: answer})
            self.assertTrue(last.decided)
            self.assertEqual((last.unread, last.new, last.known), ({1}, (), {}))

    def test_looks_at_which_all_uids_changed_are_counted(self) -> None:
        account = attrs.evolve(ACCOUNT, uids_changed=1)
        moved = [A.but(uid="n1"), B.but(uid="n2")]
        rows = [A.row, B.row]
        self.assertEqual(self.look(moved, rows, account).uids_changed, 2)
        self.assertEqual(self.look([*moved, C], [*rows, C.row]).uids_changed, 0)
        # Nothing is learnt from an empty mailbox, or from new mail only.
        self.assertEqual(self.look([], rows, account).uids_changed, 1)
        self.assertEqual(self.look([C], [A.deleted], account).uids_changed, 1)
        # A second copy of a deleted message does not count either.
        found = self.look(moved[:1], [A.deleted], account)
        self.assertEqual((len(found.returned), found.uids_changed), (1, 1))
        self.assertEqual(self.look(moved, rows, None).uids_changed, 1)

    def test_after_three_changes_in_a_row_uids_are_ignored(self) -> None:
        account = attrs.evolve(ACCOUNT, uids_changed=UNSTABLE_LOOKS)
        # These unique-ids are lies.
        found = self.look([A.but(uid="u2"), B.but(uid="u1")], [A.row, B.row], account)
        self.assert_found(found, {1: A.row, 2: B.row})
        self.assertEqual(found.renamed, {})
        self.assertEqual(found.uids_changed, UNSTABLE_LOOKS)


class NoUniqueIdTests(IdentityTestCase):
    """A UID is blank, or occurs twice; rows are missing from UIDL; there is no UIDL."""

    def no_uids(self, *mails: Mail) -> list[Mail]:
        return [mail.but(uid="") for mail in mails]

    def test_without_uidl_messages_are_recognised_by_header_and_size(self) -> None:
        sizes = [Listing(1, B.size), Listing(2, A.size), Listing(3, C.size)]
        account = attrs.evolve(ACCOUNT, uids_seen=False)
        inventory = take_inventory(Stat(3, 0), sizes, None, account)
        rows = [mail.row for mail in self.no_uids(A, B)]
        found = self.look([B, A, C], rows, account, inventory)
        self.assert_found(found, {1: rows[1], 2: rows[0]}, new=[3])
        self.assert_read(headers={1, 2, 3})

    def test_without_uidl_the_first_look_reads_nothing(self) -> None:
        found = self.look(self.no_uids(A, B), list[Remembered](), None)
        self.assert_found(found, {}, new=[1, 2])
        self.assert_read()

    def test_uidl_given_up_keeps_the_uids_of_the_rows(self) -> None:
        found = self.look(self.no_uids(A, B, C), [A.row, B.row])
        self.assert_found(found, {1: A.row, 2: B.row}, new=[3])
        self.assertEqual(found.renamed, {})

    def test_messages_that_got_no_uid_are_recognised_when_uidl_is_back(self) -> None:
        rows = [A.row, B.but(uid="").row]
        found = self.look([A, B], rows)
        self.assert_found(found, {1: rows[0], 2: rows[1]})
        self.assertEqual(found.renamed, {2: rows[1]})
        self.assertEqual(found.uids_changed, 0)

    def test_blank_uid_is_recognised_by_content(self) -> None:
        rows = [mail.row for mail in self.no_uids(B)]
        found = self.look([A, *self.no_uids(B, C)], [A.row, *rows])
        self.assert_found(found, {1: A.row, 2: rows[0]}, new=[3])
        self.assert_read(headers={2, 3})

    def test_equal_uids_are_recognised_by_content(self) -> None:
        # Of messages that had different ones before, too.
        twins = [A.but(uid="u2"), B, C.but(uid="u2")]
        found = self.look(twins, [A.row, B.row])
        self.assert_found(found, {1: A.row, 2: B.row}, new=[3])
        self.assertEqual(found.renamed, {})

    def test_row_missing_from_uidl_is_recognised_by_content(self) -> None:
        sizes = [Listing(1, A.size), Listing(2, B.size), Listing(3, C.size)]
        inventory = take_inventory(Stat(3, 0), sizes, [UID(1, "u1")], ACCOUNT)
        found = self.look([A, B, C], [A.row, B.row], inventory=inventory)
        self.assert_found(found, {1: A.row, 2: B.row}, new=[3])
        self.assert_read(headers={2, 3})

    def test_two_equal_messages_are_both_wanted(self) -> None:
        twins = self.no_uids(A, A)
        self.assertEqual(self.look(twins, list[Remembered]()).new, (1, 2))
        # Only one is known yet.
        found = self.look(twins, [twins[0].row])
        self.assert_found(found, {1: twins[0].row}, new=[2])
        self.assert_read(headers={1, 2}, bodies={1, 2})

    def test_two_equal_messages_are_counted_afterwards(self) -> None:
        twins = self.no_uids(A, A)
        rows = [mail.row for mail in twins]
        found = self.look(twins, rows)
        self.assert_found(found, {1: rows[0], 2: rows[1]})
        self.assert_read(headers={1, 2})
        found = self.look(twins[:1], rows)
        self.assert_found(found, {1: rows[0]}, absent=[rows[1]])
        found = self.look([*twins, twins[0]], rows)
        self.assert_found(found, {1: rows[0], 2: rows[1]}, new=[3])

    def test_equal_headers_and_sizes_are_told_apart_by_body(self) -> None:
        one, two = self.no_uids(A, A.but(body="other"))
        rows = [one.row, two.row]
        found = self.look([two, one], rows)
        self.assert_found(found, {1: two.row, 2: one.row})
        self.assert_read(headers={1, 2}, bodies={1, 2})
        found = self.look([two], rows)
        self.assert_found(found, {1: two.row}, absent=[one.row])
        found = self.look([one, two], [two.row])
        self.assert_found(found, {2: two.row}, new=[1])

    def test_equal_messages_seen_by_header_are_counted(self) -> None:
        twins = self.no_uids(A, A, A)
        rows = [twins[0].seen, twins[0].seen]
        found = self.look(twins, rows)
        self.assert_found(found, {1: rows[0], 2: rows[1]}, new=[3])
        self.assert_read(headers={1, 2, 3})

    def test_one_row_with_a_body_and_one_without_are_both_found(self) -> None:
        one, two = self.no_uids(A, A.but(body="other"))
        found = self.look([two, one], [one.row, two.seen])
        self.assert_found(found, {1: two.seen, 2: one.row})

    def test_message_without_message_id_needs_the_body(self) -> None:
        (old,) = self.no_uids(A.but(message_id=False))
        found = self.look([old], [old.row])
        self.assert_found(found, {1: old.row})
        self.assert_read(headers={1}, bodies={1})

    def test_size_that_differs_needs_the_body(self) -> None:
        # Such as of an mbox on the server, which notes in a field what was retrieved.
        mails = self.no_uids(A, B, C)
        rows = [mail.row for mail in mails]
        grown = mails[0].but(size=513)
        found = self.look([grown, *mails[1:]], rows)
        self.assert_found(found, dict(enumerate(rows, 1)))
        self.assertEqual(found.resized, {1: rows[0]})
        self.assert_read(headers={1, 2, 3}, bodies={1})
        found = self.look([grown.but(body="footer"), *mails[1:]], rows)
        self.assert_found(found, {2: rows[1], 3: rows[2]}, new=[1], absent=[rows[0]])

    def test_all_sizes_that_differ_are_another_server(self) -> None:
        mails = self.no_uids(A, B, C)
        rows = [mail.seen for mail in mails]
        found = self.look([mail.but(size=mail.size + 9) for mail in mails], rows)
        self.assert_found(found, dict(enumerate(rows, 1)))

    def test_twin_of_a_deleted_message_is_told_apart_by_its_body(self) -> None:
        old, twin = self.no_uids(A, A.but(body="other"))
        for mail, row in ((twin, twin.row), (old, old.deleted)):
            found = self.look([mail], [old.deleted, twin.row])
            self.assertEqual(found.known, {1: row})
            self.assert_read(headers={1}, bodies={1})

    def test_deleted_message_that_is_still_listed_is_recognised(self) -> None:
        (old,) = self.no_uids(A)
        found = self.look([old], [old.deleted])
        self.assert_found(found, {1: old.deleted})
        self.assertEqual(found.returned, {1: old.deleted})

    def test_new_message_of_the_size_of_a_deleted_one_is_new(self) -> None:
        old, new = self.no_uids(A, C.but(size=A.size))
        found = self.look([new], [old.deleted])
        self.assert_found(found, {}, new=[1], absent=[old.deleted])
        self.assert_read(headers={1})

    def test_top_that_fails_is_replaced_by_the_message(self) -> None:
        mails = self.no_uids(A, B)
        rows = [mails[0].row]
        found = identify(inventory_of(*mails), rows, ACCOUNT)
        found = found.compared({1: None, 2: None})
        self.assertEqual((found.headers, found.bodies), (frozenset(), {1, 2}))
        found = found.compared({1: A.content, 2: B.content})
        self.assert_found(found, {1: rows[0]}, new=[2])

    def lied(
        self, mails: list[Mail], rows: list[Remembered], honest: tuple[int, ...] = ()
    ) -> Identified[Remembered]:
        """Compare up to where TOP gave other headers than RETR, except for some."""
        found = identify(inventory_of(*mails), rows, ACCOUNT)
        other = {
            number: header_of(mail if number in honest else mail.but(name="x"))
            for number, mail in enumerate(mails, 1)
        }
        return found.compared({number: other[number] for number in found.headers})

    def test_message_of_a_known_size_is_read_whole_before_it_is_new(self) -> None:
        mails = self.no_uids(A, B, C)
        rows = [A.row, B.row]
        found = self.lied(mails, rows, honest=(2,))
        # B is recognised, and nothing known has the size of C.
        self.assertEqual((found.bodies, found.new), ({1}, (3,)))
        again = found.compared({1: A.content})
        self.assertTrue(again.top_differs)
        # C may be a known one that had another size, but no row is left.
        self.assert_found(again, {1: A.row, 2: B.row}, new=[3])
        other = Mail("other", "")
        found = found.compared({1: other.content})
        self.assertEqual(found.bodies, {3})
        found = found.compared({3: C.content})
        self.assert_found(found, {2: B.row}, new=[1, 3], absent=[A.row])

    def test_one_message_shows_whether_top_is_right_if_none_is_recognised(
        self,
    ) -> None:
        rows = [A.row, B.row]
        mails = [mail.but(size=mail.size + 1) for mail in self.no_uids(B, C, A)]
        found = self.lied(mails, rows)
        # The smallest.
        self.assertEqual(found.bodies, {3})
        found = found.compared({3: A.content})
        self.assertEqual(found.bodies, {1, 2})
        found = found.compared({1: B.content, 2: C.content})
        self.assert_found(found, {1: B.row, 3: A.row}, new=[2])

    def test_other_messages_are_not_read_where_top_is_right(self) -> None:
        mails = self.no_uids(Mail("d", "", size=800), Mail("e", "", size=900))
        found = self.lied(mails, [A.row, B.row], honest=(1, 2))
        self.assertEqual(found.bodies, {1})
        found = found.compared({1: mails[0].content})
        self.assertFalse(found.top_differs)
        self.assert_found(found, {}, new=[1, 2], absent=[A.row, B.row])

    def test_rows_without_a_body_do_not_make_messages_read_whole(self) -> None:
        found = self.lied(self.no_uids(A, B), [A.seen, B.deleted])
        self.assert_found(found, {}, new=[1, 2], absent=[A.seen, B.deleted])

    def test_message_that_can_never_be_read_is_known_by_its_size(self) -> None:
        (old,) = self.no_uids(A)
        found = identify(inventory_of(old, old), [old.unreadable], ACCOUNT)
        self.assertEqual(found.headers, {1, 2})
        found = found.compared({1: None, 2: None})
        self.assertEqual(found.bodies, {1, 2})
        found = found.compared({1: None, 2: A.content})
        self.assert_found(found, {1: old.unreadable}, new=[2])
        # Now it was read after all.
        found = found.compared({1: A.content})
        self.assert_found(found, {}, new=[1, 2], absent=[old.unreadable])

    def test_messages_that_cannot_be_read_now_are_left_undecided(self) -> None:
        old, other = self.no_uids(A, B)
        rows = [old.row, old.unreadable, other.row]
        found = identify(inventory_of(old, old), rows, ACCOUNT)
        found = found.compared({1: None, 2: None}).compared({1: None, 2: None})
        self.assertEqual(found.known, {1: old.unreadable})
        self.assertEqual((found.unread, found.new), ({2}, ()))
        self.assertEqual(found.absent, (other.row,))


class UnreadableTests(IdentityTestCase):
    """A message that could not be read is read at last: its row has no header."""

    def test_it_takes_its_row(self) -> None:
        found = self.look([A, B], [A.unreadable, B.row])
        found = found.compared({1: A.content})
        self.assert_found(found, {1: A.unreadable, 2: B.row})

    def test_it_may_have_been_delivered_while_it_had_no_uid(self) -> None:
        rows = [A.unreadable, A.but(uid="").row]
        found = self.look([A], rows)
        self.assertEqual(found.known, {1: A.unreadable})
        found = self.read(found.compared({1: A.content}), [A])
        self.assert_found(found, {1: rows[1]}, absent=[A.unreadable])
        self.assertEqual(found.renamed, {1: rows[1]})

    def test_its_equal_twin_keeps_the_row_that_was_delivered(self) -> None:
        twin = A.but(uid="u2")
        mails = [A, twin.but(uid="")]
        rows = [A.unreadable, twin.row]
        found = self.look(mails, rows)
        self.assertEqual(found.known, {1: A.unreadable, 2: twin.row})
        found = self.read(found.compared({1: A.content}), mails)
        self.assert_found(found, {1: A.unreadable, 2: twin.row})

    def test_used_uid_is_compared_with_the_others_that_had_it(self) -> None:
        # Whether it is the known one with another size, or a new one, is not known.
        used = C.but(uid="u1")
        for rows in ([A.row, used.unreadable], [A.deleted, used.unreadable]):
            found = self.look([used], rows)
            self.assert_found(found, {1: rows[1]}, absent=rows[:1])
            self.assert_read(headers={1}, bodies={1})
            found = self.look([A.but(size=used.size)], rows)
            self.assert_found(found, {1: rows[0]}, absent=rows[1:])
            self.assert_read(headers={1})

    def test_equal_twin_of_a_deleted_message_is_not_a_restored_one(self) -> None:
        used = C.but(uid="u1")
        rows = [A.deleted, used.unreadable, used.but(uid="u4").deleted]
        found = self.look([used], rows)
        self.assert_found(found, {1: rows[1]}, absent=[rows[0], rows[2]])

    def test_used_uid_that_still_cannot_be_read_takes_its_row(self) -> None:
        used = C.but(uid="u1")
        rows = [A.row, used.unreadable]
        found = identify(inventory_of(used), rows, ACCOUNT)
        for _ in range(2):
            found = found.compared({1: None})
        self.assert_found(found, {1: rows[1]}, absent=rows[:1])


class MessageNumberTests(IdentityTestCase):
    """UIDs that equal the message numbers throughout."""

    def numbered(self, *mails: Mail) -> list[Mail]:
        return [mail.but(uid=str(number)) for number, mail in enumerate(mails, 1)]

    def test_all_are_compared_by_content(self) -> None:
        rows = [mail.row for mail in self.numbered(A, B)]
        found = self.look(self.numbered(B, C), rows)
        self.assert_found(found, {1: rows[1]}, new=[2], absent=[rows[0]])
        self.assert_read(headers={1, 2})

    def test_new_message_with_the_number_of_a_deleted_one_is_new(self) -> None:
        for size in (A.size, B.size):
            found = self.look(self.numbered(B.but(size=size)), [A.but(uid="1").deleted])
            self.assertEqual(found.new, (1,))

    def test_uids_that_turn_out_to_be_real_are_taken(self) -> None:
        # The first messages of a mailbox may have these numbers by right.
        rows = [mail.row for mail in (A.but(uid=""), B.but(uid=""))]
        found = self.look([A.but(uid="1"), B.but(uid="2"), C.but(uid="7")], rows)
        self.assert_found(found, {1: rows[0], 2: rows[1]}, new=[3])
        self.assertEqual(found.renamed, {1: rows[0], 2: rows[1]})
        self.assertEqual(found.uids_changed, 0)


class ProvenBeforeDeletionTests(IdentityTestCase):
    """The header of a known message is read before DELE, and passed as well."""

    def test_same_header_changes_nothing(self) -> None:
        for mail in (A, A.but(message_id=False)):
            found = self.look([mail, B], [mail.row, B.row])
            self.assertEqual(found.compared({1: header_of(mail)}).known, found.known)

    def test_other_header_is_another_message(self) -> None:
        found = self.look([A, B], [A.row, B.row])
        found = found.compared({1: header_of(C)})
        self.assertEqual((found.bodies, found.new), ({1}, ()))
        found = found.compared({1: C.content})
        self.assert_found(found, {2: B.row}, new=[1], absent=[A.row])

    def test_other_header_of_top_counts_less_than_that_of_retr(self) -> None:
        found = self.look([A, B], [A.row, B.row])
        found = found.compared({1: header_of(C)})
        found = found.compared({1: A.content})
        self.assert_found(found, {1: A.row, 2: B.row})

    def test_other_header_of_top_and_no_body_decide_nothing(self) -> None:
        found = self.look([A, B], [A.row, B.row])
        found = found.compared({1: header_of(C)})
        found = found.compared({1: None})
        self.assertEqual((found.known, found.new, found.absent), ({2: B.row}, (), ()))
        self.assertEqual(found.unread, {1})

    def test_header_that_cannot_be_read_changes_nothing(self) -> None:
        found = self.look([A, B], [A.row, B.row])
        self.assertEqual(found.compared({1: None}).known, found.known)

    def test_header_read_again_keeps_the_body(self) -> None:
        old = A.but(message_id=False, uid="")
        found = self.look([old], [old.row])
        self.assertEqual(found.contents[1], old.content)
        again = found.compared({1: header_of(old)})
        self.assertEqual((again.known, again.contents), (found.known, found.contents))


class HeldTests(IdentityTestCase):
    """None of at least 20 known messages is recognised, and very many are new."""

    known = tuple(Mail(f"k{n}", f"k{n}", 500) for n in range(HELD_KNOWN))
    rows = tuple(mail.row for mail in known)
    new = tuple(Mail(f"n{n}", f"n{n}", 501) for n in range(HELD_NEW + 1))
    account = attrs.evolve(ACCOUNT, listed=HELD_KNOWN)

    def test_account_is_held_after_all_headers_were_compared(self) -> None:
        first = identify(inventory_of(*self.new), self.rows, self.account)
        self.assertEqual((first.held, len(first.headers)), ("", HELD_NEW + 1))
        found = self.read(first, self.new)
        self.assertEqual(
            found.held,
            "1001 messages look new, and none of the 20 known ones is recognised",
        )
        self.assertEqual(len(found.new), HELD_NEW + 1)

    def test_account_is_held_when_headers_cannot_be_read(self) -> None:
        found = self.look(self.new, list[Remembered](), self.account)
        self.assertTrue(found.held)

    def test_program_without_an_account_gets_the_same_answer(self) -> None:
        self.assertTrue(self.look(self.new, self.rows, None).held)
        self.assertFalse(self.look(self.new, self.rows[1:], None).held)
        self.assertFalse(self.look(self.new, list[Remembered](), None).held)

    def test_account_is_not_held_at_its_first_look(self) -> None:
        account = attrs.evolve(self.account, looked_at=None)
        self.assertFalse(self.look(self.new, self.rows, account).held)

    def test_account_is_not_held_if_fewer_messages_were_listed(self) -> None:
        account = attrs.evolve(self.account, listed=HELD_KNOWN - 1)
        self.assertFalse(self.look(self.new, self.rows, account).held)

    def test_account_is_not_held_for_fewer_new_messages(self) -> None:
        self.assertFalse(self.look(self.new[1:], self.rows, self.account).held)

    def test_account_is_not_held_if_as_many_are_usual(self) -> None:
        usual = (HELD_NEW + 1) / HELD_USUAL
        account = attrs.evolve(self.account, usual_new=usual)
        self.assertFalse(self.look(self.new, self.rows, account).held)
        account = attrs.evolve(self.account, usual_new=usual - 0.1)
        self.assertTrue(self.look(self.new, self.rows, account).held)

    def test_account_is_not_held_if_one_message_is_recognised(self) -> None:
        old = self.known[0]
        moved = old.but(uid="x")
        grown = moved.but(size=777)
        for known in (old, old.but(size=777), moved, grown):
            found = self.look([*self.new, known], self.rows, self.account)
            self.assertEqual(len(found.known), 1)
            self.assertFalse(found.held)

    def test_account_that_was_released_is_not_held_again(self) -> None:
        for released_as in ("new", "seen"):
            account = attrs.evolve(self.account, released_as=released_as)
            self.assertFalse(self.look(self.new, self.rows, account).held)


class ShortListingTests(IdentityTestCase):
    def test_short_listing_once_loses_and_repeats_nothing(self) -> None:
        rows = [A.row, B.row, C.row]
        sizes = [Listing(1, A.size)]
        short = take_inventory(Stat(3, 0), sizes, [UID(1, "u1")], ACCOUNT)
        found = self.look([A], rows, inventory=short)
        self.assertFalse(short.complete)
        self.assert_found(found, {1: A.row}, absent=[B.row, C.row])
        self.assert_found(self.look([A, B, C], rows), dict(enumerate(rows, 1)))

    def test_empty_mailbox_once_loses_and_repeats_nothing(self) -> None:
        rows = [A.row, B.row]
        self.assert_found(self.look([], rows), {}, absent=rows)
        self.assert_found(self.look([A, B], rows), dict(enumerate(rows, 1)))


class Counted(str):
    """A unique-id whose comparisons with others are counted."""

    __slots__ = ("_test",)

    def __new__(cls, text: str, test: LargeTests) -> Counted:
        self = super().__new__(cls, text)
        self._test = test
        return self

    def __eq__(self, other: object) -> bool:
        self._test.compared += 1
        return super().__eq__(other)

    def __hash__(self) -> int:
        self._test.compared += 1
        return super().__hash__()


class LargeTests(IdentityTestCase):
    """Large listings are compared quickly, and in slices."""

    COUNT = 50_000

    def counted(self, number: int) -> Counted:
        return Counted(f"uid-{number}", self)

    def setUp(self) -> None:
        super().setUp()
        self.compared = 0

    def run_steps(self, steps: Steps[T]) -> tuple[T, int]:
        count = 0
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result, count
            count += 1

    def test_listing_is_compared_in_slices(self) -> None:
        numbers = range(1, self.COUNT + 1)
        inventory, steps = self.run_steps(
            take_inventory_steps(
                Stat(self.COUNT, 0),
                [Listing(number, 500 + number % 999) for number in numbers],
                [UID(number, self.counted(number)) for number in numbers],
                ACCOUNT,
            )
        )
        self.assertGreaterEqual(steps, 5 * self.COUNT / SLICE)
        self.assertLessEqual(steps, 6 * self.COUNT / SLICE)
        rows = [
            Remembered(self.counted(number), 500 + number % 999, "h")
            for number in numbers
        ]
        found, steps = self.run_steps(identify_steps(inventory, rows[10:], ACCOUNT))
        self.assertGreaterEqual(steps, 4 * self.COUNT / SLICE)
        self.assertEqual(found.new, tuple(range(1, 11)))
        self.assertEqual(len(found.known), self.COUNT - 10)
        self.assertLessEqual(steps, 6 * self.COUNT / SLICE)
        # Each unique-id with a few others, and not with all.
        self.assertLess(self.compared, 20 * self.COUNT)

    def test_content_is_compared_in_slices(self) -> None:
        count = 3 * SLICE
        mails = {
            number: Content(f"h{number}", True, f"b{number}")
            for number in range(1, count + 1)
        }
        listings = [Listing(number, 500) for number in mails]
        inventory = take_inventory(Stat(count, 0), listings, None)
        rows = [
            Remembered("", 500 + (number % 3 == 0), f"h{number}", f"b{number}")
            for number in mails
        ]
        found = identify(inventory, rows)
        self.assertEqual(len(found.headers), count)
        headers = {
            number: attrs.evolve(content, body="") for number, content in mails.items()
        }
        found, steps = self.run_steps(found.compared_steps(headers))
        self.assertGreaterEqual(steps, 5 * count / SLICE)
        self.assertEqual(len(found.bodies), count / 3)
        found, steps = self.run_steps(
            found.compared_steps({number: mails[number] for number in found.bodies})
        )
        self.assertEqual(len(found.known), count)
        self.assertEqual((found.new, found.absent), ((), ()))

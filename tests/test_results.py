"""The values that the commands of a handle give back."""

from __future__ import annotations

import pickle

from twisted.trial.unittest import SynchronousTestCase

from pop3connect import (
    UID,
    CommandError,
    Committed,
    Listing,
    LoginInfo,
    Message,
    Refused,
    Stat,
)


class ResultTests(SynchronousTestCase):
    """All of them are plain values."""

    VALUES = (
        Stat(count=2, size=320),
        Listing(number=1, size=120),
        UID(number=1, uid="QhdPYR:00WBw1Ph7x7"),
        Message(number=1, content=b"x\r\n", error=None),
        LoginInfo(mechanism="APOP", cleartext=False),
        Committed(deleted=frozenset({1, 2})),
    )

    def test_values_with_equal_fields_are_equal_after_pickling(self) -> None:
        for value in self.VALUES:
            twin = pickle.loads(pickle.dumps(value))
            self.assertEqual(value, twin)
            self.assertEqual(hash(value), hash(twin))
        self.assertNotEqual(Committed(frozenset()), Committed(frozenset({1})))
        self.assertNotEqual(LoginInfo("USER", True), LoginInfo("USER", False))

    def test_assigning_to_a_field_raises_attribute_error(self) -> None:
        for value in self.VALUES:
            for name in dir(value):
                if not name.startswith("_") and name not in ("count", "index"):
                    with self.assertRaises(AttributeError):
                        setattr(value, name, None)
        with self.assertRaises(AttributeError):
            Stat(1, 2).count = 3  # type: ignore[misc]

    def test_repr_shows_every_field_by_name(self) -> None:
        self.assertEqual(
            [repr(value) for value in self.VALUES],
            [
                "Stat(count=2, size=320)",
                "Listing(number=1, size=120)",
                "UID(number=1, uid='QhdPYR:00WBw1Ph7x7')",
                "Message(number=1, content=b'x\\r\\n', error=None)",
                "LoginInfo(mechanism='APOP', cleartext=False)",
                "Committed(deleted=frozenset({1, 2}))",
            ],
        )

    def test_stat_listing_and_uid_unpack_like_tuples(self) -> None:
        count, size = Stat(2, 320)
        self.assertEqual((count, size), (2, 320))
        self.assertEqual(Stat(2, 320).count, 2)
        self.assertEqual(dict([Listing(1, 120), Listing(2, 200)]), {1: 120, 2: 200})
        self.assertEqual(dict([UID(1, "a"), UID(2, "b")]), {1: "a", 2: "b"})

    def test_refused_message_unpacks_to_number_none_and_error(self) -> None:
        error = CommandError("no such message")
        number, content, why = Refused(7, None, error)
        self.assertEqual((number, content), (7, None))
        self.assertIs(why, error)

    def test_refused_message_survives_pickling_with_its_error(self) -> None:
        refused = Refused(7, None, CommandError("no such message"))
        twin = pickle.loads(pickle.dumps(refused))
        self.assertEqual(twin[:2], (7, None))
        self.assertEqual(str(twin.error), str(refused.error))
        self.assertEqual(
            repr(refused),
            "Refused(number=7, content=None, error=CommandError('no such message'))",
        )

"""
The login policy: what can be asked for, in which order, and what follows a refusal.

Which mechanism is chosen is tested in `test_dialogues`.
"""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import CommandError, UsageError
from pop3connect.auth.policy import (
    Attempt,
    Outcome,
    Verdict,
    check_auth,
    check_authorize_as,
    choose,
    names_cyrus,
    next_attempt,
    order_bindings,
    plan,
    sends_password,
)
from pop3connect.auth.sasl import MECHANISMS, ChannelBinding
from pop3connect.results import Capabilities

from ..support.shows import shows

BINDINGS: list[ChannelBinding] = [
    ("tls-exporter", b"x"),
    ("tls-server-end-point", b"y"),
    ("tls-unique", b"z"),
]


def offering(*sasl: str, **tags: tuple[str, ...]) -> Capabilities:
    return Capabilities({"SASL": sasl, "USER": (), **tags})


def failed(attempt: Attempt, verdict: Verdict, code: str | None = None) -> Outcome:
    verb = attempt.mechanism if attempt.mechanism in ("USER", "APOP") else "AUTH"
    return Outcome(attempt, verdict, CommandError("refused", code=code, verb=verb))


class CheckAuthTests(SynchronousTestCase):
    """`check_auth`"""

    def test_known_names_are_accepted_in_any_case(self) -> None:
        for auth, name in [
            ("auto", "auto"),
            ("AUTO", "auto"),
            ("user", "USER"),
            ("Apop", "APOP"),
            ("PLAIN", "PLAIN"),
            ("plain", "PLAIN"),
        ]:
            self.assertEqual(check_auth(auth), name)
        for name in MECHANISMS:
            self.assertEqual(check_auth(name.lower()), name)

    def test_unknown_names_are_refused_with_a_list_of_the_choices(self) -> None:
        for auth in ("", "PASS", "PLAIN\r\n", " PLAIN", "NTLM-X", None, 1, b"PLAIN"):
            with self.assertRaises(UsageError) as caught:
                check_auth(auth)
            text = str(caught.exception)
            self.assertIn(repr(auth), text)
            for name in ("'auto'", "USER", "APOP", *MECHANISMS):
                self.assertIn(name, text)


class AuthorizeAsTests(SynchronousTestCase):
    """`check_authorize_as`, and the choice where there is such an identity"""

    def test_mechanisms_that_carry_it_accept_it(self) -> None:
        for auth in ("auto", "PLAIN", "SCRAM-SHA-256", "EXTERNAL", "OAUTHBEARER"):
            check_authorize_as("bob", auth)

    def test_other_mechanisms_are_refused_by_name(self) -> None:
        for auth, name in (
            ("USER", "USER"),
            ("CRAM-MD5", "CRAM-MD5"),
            (object(), "your own mechanism"),
        ):
            with self.assertRaises(UsageError) as caught:
                check_authorize_as("bob", auth)
            self.assertIn(f"cannot be used with {name}", str(caught.exception))

    def test_free_choice_leaves_out_those_that_cannot_carry_it(self) -> None:
        names = choose(
            "auto",
            offering("PLAIN", "LOGIN", "CRAM-MD5"),
            protected=True,
            bindable=False,
            challenge=True,
            certificate=False,
            authorizes=True,
        )
        self.assertEqual(names, ["PLAIN"])


class BindingTests(SynchronousTestCase):
    """The order of channel bindings."""

    def kinds(self, known: str | None, cyrus: bool) -> list[str]:
        ordered = order_bindings(BINDINGS, known=known, cyrus=cyrus)
        self.assertEqual(sorted(ordered), sorted(BINDINGS))
        return [kind for kind, _ in ordered]

    @shows("RFC 2449-05")
    def test_tls_unique_is_last_and_first_for_cyrus_or_where_it_worked(self) -> None:
        strongest = ["tls-exporter", "tls-server-end-point", "tls-unique"]
        unique = ["tls-unique", "tls-exporter", "tls-server-end-point"]
        self.assertEqual(self.kinds(None, False), strongest)
        self.assertEqual(self.kinds(None, True), unique)
        self.assertEqual(self.kinds("tls-unique", False), unique)
        # What worked counts for more than a name.
        self.assertEqual(self.kinds("tls-exporter", True), strongest)

    def test_cyrus_is_recognized_in_greeting_or_implementation(self) -> None:
        told = offering(IMPLEMENTATION=("Cyrus", "POP3", "3.6.1"))
        self.assertTrue(names_cyrus(b"localhost Cyrus POP3 ready", offering()))
        self.assertTrue(names_cyrus(b"ready", told))
        self.assertFalse(names_cyrus(b"ready", offering(IMPLEMENTATION=("Dovecot",))))


#: What servers offer.
OFFERS = (
    (),
    ("PLAIN", "LOGIN"),
    ("CRAM-MD5",),
    ("PLAIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"),
    ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"),
    ("XOAUTH2",),
)


@attrs.frozen
class Peer:
    """
    A server that accepts nothing.

    :ivar timestamp: whether there is one in the greeting.
    """

    sasl: tuple[str, ...]
    tls: bool = True
    timestamp: bool = True
    auth: str = "auto"

    def tried(self, verdict: Verdict, code: str | None = None) -> list[Attempt]:
        """
        Return the attempts that this server sees, if it answers each like that.
        """
        offer = offering(*self.sasl)
        names = choose(
            self.auth,
            offer,
            protected=self.tls,
            bindable=self.tls,
            challenge=self.timestamp,
            certificate=False,
        )
        bindings = BINDINGS if self.tls else []
        attempts = plan(names, offer, bindings, renewable=True)
        outcomes: list[Outcome] = []
        while (attempt := next_attempt(attempts, outcomes)) is not None:
            outcomes.append(failed(attempt, verdict, code))
        return [outcome.attempt for outcome in outcomes]

    def mechanisms(self, verdict: Verdict, code: str | None = None) -> list[str]:
        """
        Return their names.
        """
        return [attempt.mechanism for attempt in self.tried(verdict, code)]


def every_peer() -> list[Peer]:
    return [
        Peer(sasl, tls, timestamp, auth)
        for sasl in OFFERS
        for tls in (True, False)
        for timestamp in (True, False)
        for auth in ("auto", "USER", "APOP", *sasl)
    ]


class NextAttemptTests(SynchronousTestCase):
    """`next_attempt`: one further attempt at most, and never without the binding."""

    @shows(
        "attack 3.8",
        "Many failed logins, to lock the account",
        "A locked account.",
        "At most one further attempt follows a refusal of the credentials.",
    )
    def test_no_server_sees_more_than_two_wrong_passwords(self) -> None:
        seen = {
            len(peer.tried(Verdict.REFUSED, code))
            for peer in every_peer()
            for code in (None, "AUTH", "LIMIT")
        }
        self.assertEqual(seen, {1, 2})

    def test_second_attempt_is_user_after_apop_a_binding_or_a_fresh_token(self) -> None:
        seen = set()
        for peer in every_peer():
            for code in (None, "AUTH", "LIMIT"):
                tried = peer.tried(Verdict.REFUSED, code)
                if len(tried) > 1:
                    first, second = tried
                    self.assertEqual(first.bound, second.bound)
                    seen.add((first.mechanism, second.mechanism, code, peer.tls))
        bound = {
            (name, name, code, True)
            for name in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS")
            for code in (None, "AUTH")
        }
        in_the_clear = {("APOP", "USER", code, False) for code in (None, "AUTH")}
        # The command USER was refused, before PASS.
        refused_name = {("USER", "CRAM-MD5", None, True), ("USER", "APOP", None, True)}
        token = {("XOAUTH2", "XOAUTH2", "AUTH", tls) for tls in (True, False)}
        self.assertEqual(seen, bound | in_the_clear | refused_name | token)

    @shows("RFC 3206-02")
    def test_refusal_for_another_reason_is_the_end_with_every_server(self) -> None:
        codes = ("IN-USE", "LOGIN-DELAY", "LOGIN-DELAY/300", "SYS/TEMP", "SYS/PERM")
        for peer in every_peer():
            for code in codes:
                for verdict in (Verdict.REFUSED, Verdict.UNSUPPORTED):
                    self.assertEqual(len(peer.tried(verdict, code)), 1, (peer, code))

    def test_outdated_attempt_is_followed_by_one_other_without_losing_the_binding(
        self,
    ) -> None:
        binding = ("tls-exporter", b"")
        bound = Attempt("SCRAM-SHA-1-PLUS", binding)
        left = [Attempt("SCRAM-SHA-256-PLUS", binding), Attempt("PLAIN")]
        refusal = CommandError("no", text="no")
        for attempt, following in ((Attempt("LOGIN"), left[0]), (bound, left[0])):
            refused = Outcome(attempt, Verdict.REFUSED, refusal, outdated=True)
            self.assertEqual(next_attempt(left, [refused]), following)
            second = Outcome(following, Verdict.REFUSED, refusal)
            self.assertIsNone(next_attempt(left, [refused, second]))
            # Called unsupported, but the password may have been judged.
            third = Outcome(left[1], Verdict.UNSUPPORTED, refusal)
            self.assertIsNone(next_attempt(left, [refused, third]))
            # A login that was bound is followed by none that is not.
            unbound = next_attempt(left[1:], [refused])
            self.assertEqual(unbound, None if attempt.bound else left[1])

    def test_unsupported_mechanisms_are_followed_by_all_the_others(self) -> None:
        self.assertEqual(
            Peer(OFFERS[3]).mechanisms(Verdict.UNSUPPORTED),
            ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "USER", "CRAM-MD5", "APOP"],
        )
        self.assertEqual(
            Peer(OFFERS[3], tls=False).mechanisms(Verdict.UNSUPPORTED),
            ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "APOP", "USER"],
        )

    def test_unsupported_binding_is_followed_by_other_bindings_only(self) -> None:
        tried = Peer(OFFERS[4]).tried(Verdict.UNSUPPORTED)
        self.assertEqual(
            [(attempt.mechanism, attempt.binding) for attempt in tried],
            [
                (name, binding)
                for name in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")
                for binding in BINDINGS
            ],
        )

    def test_fresh_token_is_only_for_one_that_was_refused(self) -> None:
        peer = Peer(("XOAUTH2",), auth="XOAUTH2")
        refused = peer.tried(Verdict.REFUSED, "AUTH")
        self.assertEqual([attempt.fresh for attempt in refused], [False, True])
        for verdict in (Verdict.REFUSED, Verdict.UNSUPPORTED):
            self.assertEqual(len(peer.tried(verdict)), 1)

    def test_salt_that_cannot_be_used_rules_out_every_scram(self) -> None:
        attempts = plan(
            ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"],
            offering("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"),
            [],
            renewable=False,
        )
        short = Outcome(
            attempts[0], Verdict.UNSUPPORTED, CommandError("no"), reason="a short salt"
        )
        following = next_attempt(attempts, [short], None)
        assert following is not None
        self.assertEqual(following.mechanism, "PLAIN")


class AttemptTests(SynchronousTestCase):
    """`Attempt`"""

    def test_title_names_the_binding_of_a_bound_login(self) -> None:
        plus = Attempt("SCRAM-SHA-1-PLUS", BINDINGS[0])
        self.assertEqual(plus.title, "SCRAM-SHA-1-PLUS bound by tls-exporter")
        self.assertEqual(Attempt("SCRAM-SHA-1", BINDINGS[0]).title, "SCRAM-SHA-1")
        self.assertEqual(Attempt("PLAIN").title, "PLAIN")

    def test_kind_is_the_same_on_another_connection(self) -> None:
        other = (BINDINGS[0][0], b"another")
        self.assertEqual(
            Attempt("SCRAM-SHA-1-PLUS", BINDINGS[0]).kind,
            Attempt("SCRAM-SHA-1-PLUS", other).kind,
        )
        self.assertNotEqual(Attempt("PLAIN").kind, Attempt("PLAIN", fresh=True).kind)

    def test_mechanisms_that_send_the_password_are_known(self) -> None:
        sending = [
            name for name in ("USER", "APOP", *MECHANISMS) if sends_password(name)
        ]
        self.assertEqual(sending, ["USER", "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"])

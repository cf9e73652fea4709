"""
The demo server's mail: ten messages, each with a difficulty for clients.

They look like real mail, and are the same bytes at every start: fixed dates, ids and
MIME boundaries, and CRLF at the end of every line, also the last one.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage
from email.policy import SMTP
from functools import lru_cache

__all__ = ["LONG_LINE", "sample_messages"]

LONG_LINE = 5000
"""Bytes in the long line: real newsletters have such lines, although RFC 5322 section
2.1.1 limits a line to 998, and a client must accept them."""

_FIRST_DATE = datetime(2024, 3, 1, 8, 30, tzinfo=timezone.utc)

_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)


@lru_cache(maxsize=1)
def sample_messages() -> tuple[bytes, ...]:
    """Return the sample mail, oldest first, as bytes with CRLF line ends."""
    makers = (
        _welcome,
        _other_alphabets,
        _newsletter,
        _attachments,
        _dots,
        _long_line,
        _eight_bit,
        _empty,
        _forwarded,
        _mailing_list,
    )
    return tuple(make(index).as_bytes() for index, make in enumerate(makers, 1))


def _mail(index: int, sender: str, subject: str) -> EmailMessage:
    # EmailMessage's defaults (the current time, random ids and boundaries) would make a
    # different mailbox, with different unique ids, at every start.
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = "You <you@example.org>"
    message["Subject"] = subject
    message["Date"] = _FIRST_DATE + timedelta(days=3 * index, minutes=17 * index)
    message["Message-ID"] = f"<demo-{index:02}@mail.example.org>"
    return message


def _welcome(index: int) -> EmailMessage:
    message = _mail(index, "Postmaster <postmaster@example.org>", "Welcome")
    message.set_content(
        "This mailbox belongs to the demo server of pop3connect.\n"
        "\n"
        "It lives in memory. Delete what you like: at the next start all of it\n"
        "is back.\n"
    )
    return message


def _other_alphabets(index: int) -> EmailMessage:
    message = _mail(
        index,
        '"Müller, Zoë" <zoe.mueller@example.com>',
        "Grüße aus Köln 🚲 und 你好, 日本語のメール",
    )
    message["Cc"] = "Łukasz Żółć <lukasz@example.pl>, Søren Ångström <so@example.dk>"
    message.set_content(
        "Schöne Grüße vom Rhein!\n\n你好,世界\n日本語の本文です。\n",
        cte="base64",
    )
    return message


def _newsletter(index: int) -> EmailMessage:
    message = _mail(
        index, "Café Crème <news@cafe.example>", "This week: crêpes at -20 %"
    )
    message["List-Unsubscribe"] = "<https://cafe.example/leave>"
    message.set_content("Crêpes, 20 % off until Sunday.\n", cte="quoted-printable")
    message.add_alternative(
        "<html><body>\n<h1>Crêpes</h1>\n<p><b>20&nbsp;%</b> off until Sunday.</p>\n"
        "</body></html>\n",
        subtype="html",
        cte="quoted-printable",
    )
    return _with_fixed_boundaries(message, index)


def _attachments(index: int) -> EmailMessage:
    message = _mail(index, "Ada Lovelace <ada@example.com>", "Figures and a picture")
    message.set_content("Ada here. The table and the picture are attached.\n")
    message.add_attachment(
        "Größe;Preis\r\n38;12,50\r\n42;13,00\r\n".encode(),
        maintype="text",
        subtype="csv",
        filename="Preisübersicht März.csv",
    )
    message.add_attachment(
        _PNG, maintype="image", subtype="png", filename="one-dot.png"
    )
    return _with_fixed_boundaries(message, index)


def _dots(index: int) -> EmailMessage:
    # Each line with a leading dot is byte-stuffed (RFC 1939 section 3); otherwise a
    # lone dot would end the reply. The body begins and ends with one.
    message = _mail(index, "Samuel Morse <sam@example.net>", "... --- ...")
    message.set_content(
        ".\n..\n...\n.hidden file\n..profile\nlast line of a sentence\n"
        ". and the dot that slipped to the next line\n-ERR this is not a reply\n"
        "+OK nor is this\n............................................\n.\n",
        cte="7bit",
    )
    return message


def _long_line(index: int) -> EmailMessage:
    message = _mail(index, "Build Robot <robot@ci.example>", "Log of build 4711")
    words = "compiling module of the very long build log, "
    line = (words * (LONG_LINE // len(words) + 1))[:LONG_LINE]
    message.set_content(f"One line, no end:\n{line}\ndone.\n", cte="7bit")
    return message


def _eight_bit(index: int) -> EmailMessage:
    message = _mail(index, "Jürgen Groß <juergen@example.de>", "Straßenfest am Samstag")
    message.set_content(
        "Am Samstag ist Straßenfest: Käse, Würste, Bühne.\nBis später!\nJürgen\n",
        charset="iso-8859-1",
        cte="8bit",
    )
    return message


def _empty(index: int) -> EmailMessage:
    # Headers, the empty line, and nothing after it.
    return _mail(index, "Telephone <phone@example.org>", "Call me back (no text)")


def _forwarded(index: int) -> EmailMessage:
    inner = _mail(index, "Émile Zola <emile@example.fr>", "J'accuse…!")
    inner.replace_header("Message-ID", "<inner-09@mail.example.fr>")
    inner.set_content("Monsieur le Président,\n\n...\n", cte="quoted-printable")
    message = _mail(index, "Claire <claire@example.org>", "Fwd: J'accuse…!")
    message.set_content("Have a look at this.\n")
    message.add_attachment(inner)
    return _with_fixed_boundaries(message, index)


def _mailing_list(index: int) -> EmailMessage:
    message = _mail(
        index,
        "Grace Hopper <grace@navy.example>",
        "Re: [compilers] Why do the nightly builds on the other machine take so much "
        "longer than they did last week?",
    )
    for hop in (3, 2, 1):
        message["Received"] = (
            f"from mx{hop}.example.net (mx{hop}.example.net [192.0.2.{hop}]) by "
            f"mail.example.org with ESMTPS id demo{hop}; Sat, 30 Mar 2024 11:0{hop}:00"
            " +0000"
        )
    message["List-Id"] = "Compilers <compilers.lists.example.org>"
    message["In-Reply-To"] = "<thread-1@lists.example.org>"
    message["References"] = " ".join(
        f"<thread-{number}@lists.example.org>" for number in range(8)
    )
    message.set_content(
        "On Friday, somebody wrote:\n"
        "> It takes twice as long.\n"
        ">\n"
        "> From here I can't see why.\n"
        "\n"
        "From what I see there was a moth in the relay.\n"
        "\n"
        "-- \n"
        "Grace\n"
    )
    return message


def _with_fixed_boundaries(message: EmailMessage, index: int) -> EmailMessage:
    parts = [part for part in message.walk() if isinstance(part, EmailMessage)]
    for depth, part in enumerate(parts):
        if part.get_content_maintype() == "multipart":
            part.set_boundary(f"=_demo_{index:02}_{depth}")
    return message

"""What strikes a session, and the outcome that it must have then, exactly."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet.defer import CancelledError

from pop3connect import (
    CommandError,
    ConnectionLostError,
    POP3Error,
    ProtocolError,
    TimedOutError,
)


@dataclass(frozen=True)
class Fault:
    """A fault.

    *ends* is the error that ends the session; None: the session goes on. An *impatient*
    session is one that the client's own time limit has to end, so it gets a short one.
    """

    name: str
    what: str
    ends: type[POP3Error] | None = None
    impatient: bool = False


DROP = Fault("drop", "closed after N octets", ConnectionLostError)
RESET = Fault("reset", "TCP reset amid a message", ConnectionLostError)
HALF_CLOSE = Fault("half-close", "the server's direction closed", ConnectionLostError)
STALL = Fault("stall", "silent from amid a message", TimedOutError, impatient=True)
DRIP = Fault("drip", "an octet now and then", TimedOutError, impatient=True)
TRICKLE = Fault("trickle", "small pieces with pauses")
NONSENSE = Fault("nonsense", "mail text for a reply", ProtocolError)
REFUSAL = Fault("refusal", "-ERR for one message")
CANCEL = Fault("cancel", "cancelled amid a message", ConnectionLostError)
ABORT = Fault("abort", "abort() with all in the air", ConnectionLostError)

FAULTS = (
    DROP,
    RESET,
    HALF_CLOSE,
    STALL,
    DRIP,
    TRICKLE,
    NONSENSE,
    REFUSAL,
    CANCEL,
    ABORT,
)


@dataclass
class Answer:
    """What became of one command: right if neither *error* nor *wrong* says else."""

    what: str
    error: BaseException | None = None
    wrong: str = ""


def fault_of(account: int, share: float) -> Fault | None:
    """The fault of an account, when *share* of all have one; each has its turn."""
    before = int(account * share)
    if int((account + 1) * share) == before:
        return None
    return FAULTS[before % len(FAULTS)]


def chance(account: int, below: int) -> int:
    """A number from 0 that is this account's, the same in both processes."""
    return zlib.crc32(b"%d" % account) % below


def struck_message(account: int, count: int) -> int:
    """The number of the message at which the fault strikes."""
    return 1 + chance(account, count)


def retrieval(number: int) -> str:
    """What the answer to RETR is called."""
    return f"RETR {number}"


def verdict(
    fault: Fault | None, struck: int, count: int, answers: Sequence[Answer]
) -> str:
    """What is wrong with a session's answers; empty: they are what they must be.

    *struck* is the number of the message at which the fault struck, of *count*.
    """
    for answer in answers:
        if answer.wrong:
            return f"{answer.what}: {answer.wrong}"
    failed = [answer for answer in answers if answer.error is not None]
    if fault is None or fault.ends is None:
        refused = [retrieval(struck)] if fault is REFUSAL else []
        return _of_one_that_goes_on(refused, count, answers, failed)
    if not failed:
        return "nobody noticed the fault"
    if answers[-len(failed) :] != failed:
        return f"an answer came after the end: {_told(failed)}"
    if fault is CANCEL and type(failed[0].error) is CancelledError:
        # The one that was cancelled; the others hear that the session has ended.
        failed = failed[1:]
    others = [answer for answer in failed if type(answer.error) is not fault.ends]
    return f"not {fault.ends.__name__}, but {_told(others)}" if others else ""


def _of_one_that_goes_on(
    refused: list[str], count: int, answers: Sequence[Answer], failed: list[Answer]
) -> str:
    asked = sorted(retrieval(number) for number in range(1, count + 1))
    came = sorted(answer.what for answer in answers if answer.what in asked)
    if came != asked:
        return f"answered were {came}, and not {asked}"
    if [answer.what for answer in failed] != refused or any(
        type(answer.error) is not CommandError for answer in failed
    ):
        return f"{refused or 'nothing'} has to be refused, but {_told(failed)}"
    return ""


def _told(answers: Sequence[Answer]) -> str:
    return ", ".join(f"{a.what}: {a.error!r}" for a in answers[:3]) or "nothing did"

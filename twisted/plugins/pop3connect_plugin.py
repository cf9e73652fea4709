"""
Makes ``twistd pop3connect`` known.

Strings only: twistd imports every plugin to list them, and what stands behind
this one is imported when it is asked for.
"""

from twisted.application.service import ServiceMaker

pop3connect = ServiceMaker(
    "pop3connect",
    "pop3connect.tap",
    "POP3 mail: collect it from mailboxes, or serve a demo and tour it",
    "pop3connect",
)

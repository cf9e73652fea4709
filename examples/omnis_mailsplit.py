"""
Take a message apart: its subject, its text, and the names of its attachments.

    python omnis_mailsplit.py < message.eml
"""

import sys

from pop3connect.omnis.blocking import MailSplit, Part


def take_apart(message):
    # MailSplit (lMessage,lHeaders,lBody) Returns lStatus
    headers, body = [], bytearray()
    status = MailSplit(message, headers, body)
    if status < 0:
        return status
    for name, value in headers:
        if name == "Subject":
            print("subject:", value)
    print(body.decode())

    # Do lParts.$define(lLevel,lType,lSubtype,lFilename,lText,lData)
    # MailSplit (lMessage,lHeaders,lParts) Returns lStatus
    parts = list(Part._fields)
    status = MailSplit(message, headers, parts)
    for part in parts:
        if part.filename:
            print("attachment:", part.filename, len(part.data))
    return status


if __name__ == "__main__":
    take_apart(sys.stdin.buffer.read())

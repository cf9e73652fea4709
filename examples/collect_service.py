r"""
The collector as one of the services of a Twisted program.

    POP3_STATE=state POP3_SERVER=pop.example.com POP3_USER=ada POP3_PASSWORD=... \
        twistd -ny collect_service.py
"""

import os

from twisted.application.service import Application
from twisted.logger import Logger

from pop3connect.collect import AccountSettings, CollectService, Config, Never

log = Logger()


class Tickets:
    """A destination that is an object of the program."""

    async def deliver(self, mail):
        """
        Take a message; if this raises, it is tried again later.

        The key is the same at each attempt: from the second one on, the message may
        be there already.
        """
        message = mail.parse()
        if message.get_content_type() == "multipart/report":
            raise Never("reports make no tickets")
        log.info("{m.key}: {m.sender} wrote: {m.subject}", m=mail)


def collector(state, *accounts):
    """
    Return the service; accounts can be added while it runs, too.

    :param state: the folder of the journal and of mail that waits.
    """
    return CollectService(
        Config(state=state, accounts=accounts), destinations={"tickets": Tickets()}
    )


if "POP3_SERVER" in os.environ:
    application = Application("tickets")
    service = collector(
        os.environ["POP3_STATE"],
        AccountSettings(
            name="support",
            server=os.environ["POP3_SERVER"],
            user=os.environ["POP3_USER"],
            password=os.environ["POP3_PASSWORD"],
            interval="1 min",
            after="delete",
        ),
    )
    service.setServiceParent(application)

``pop3connect.omnis``: the POP3 commands of Omnis Studio, with integer sockets, error codes and the folder ``secure/cacerts``.

"""A request and its reply in Python; the responder is a connection of its own, as it would be in another program."""
import threading

import fastq


def respond():
    with fastq.connect() as c, c.subscribe("greetings") as s:
        for m in s:
            m.reply(b"hello, " + m.body)  # The request is accepted in the same step.
            return


with fastq.connect() as c:
    c.declare_queue("greetings")
    responder = threading.Thread(target=respond)
    responder.start()
    print(c.request("greetings", b"world", timeout=5.0, wait_for_responder=True).body.decode())
    responder.join()

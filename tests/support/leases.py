"""Contenders for a lease, and a program whose lease expires soon."""

from __future__ import annotations

import threading
import time
from collections import Counter

from cpp.files import filesystem
from cpp.store import lease


def claimed(address: str, writers: int = 6) -> Counter[str]:
    """How many of the writers that want the same lease at the same moment "wrote", and what became of the others."""
    went, gate, done = list[str](), threading.Barrier(writers), threading.Event()

    def work() -> None:
        made = lease.Lease(*filesystem.connect(address), "here")
        gate.wait()
        try:
            made.take(lambda said: None)
        except Exception as error:
            went.append(type(error).__name__)
        else:
            made.keep()
            went.append("wrote")
            done.wait()
            made.release()

    threads = [threading.Thread(target=work) for _ in range(writers)]
    for thread in threads:
        thread.start()
    while len(went) < writers:
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    return Counter(went)


PROGRAM = "from cpp.store import lease; lease.RENEW = 0.2\nfrom pipelines.__main__ import app; app()"

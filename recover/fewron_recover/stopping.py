"""Why a run stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

GOES_ON, SIGNAL, TIME_OVER, ENOUGH, NOT_FINITE = range(5)
REASONS = (
    "done",
    "a signal came",
    "the time is over",
    "the held-out KL no longer falls",
    "the loss is no finite number",
)


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """A list that is no longer empty after SIGTERM or Ctrl-C."""
    signals: list[int] = []
    old = {
        number: signal.signal(number, lambda got, _: signals.append(got)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield signals
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def why_stop(finite: bool, enough: bool, signalled: bool, over: bool) -> int:
    """Why a process would not go on, which several agree on: a place in `REASONS`."""
    if not finite:
        return NOT_FINITE
    if enough:
        return ENOUGH
    if signalled:
        return SIGNAL
    return TIME_OVER if over else GOES_ON

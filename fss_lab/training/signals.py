"""Ctrl-C and SIGTERM: a run finishes its step, saves and ends."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric

from fss_lab.training.devices import mean_of_processes


class StopRequest:
    """Turns the first SIGTERM or Ctrl-C into a request that the loop reads between two steps; a second Ctrl-C
    interrupts at once. A context manager: afterwards the signals do what they did before.

    signal: the number of the signal that arrived, 0 for none.
    """

    def __init__(self) -> None:
        self.signal: int = 0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # nowhere else may Python handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def anywhere(self, fabric: Fabric) -> bool:
        """Whether any process received a signal; all must call this together."""
        return mean_of_processes(fabric, torch.tensor(float(self.signal), device=fabric.device)).item() > 0

    def leave(self, main: bool, saved: str) -> NoReturn:
        """End this process and, in the main one, print what was saved.

        Raises:
            KeyboardInterrupt: in the main process after Ctrl-C.
            SystemExit: with status 143 in the main process after SIGTERM; with 0 in the others, because a launcher
                would kill the main process if another one ended with an error.
        """
        if not main:
            raise SystemExit(0)
        print(f"stopped: {saved}", file=sys.stderr)
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


def ignore_signals(worker: int) -> None:
    """For processes that prepare data: a Ctrl-C or SIGTERM reaches them too, but the loop still needs them to finish
    its step; they end when it closes its loader."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

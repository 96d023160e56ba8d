"""Shows on the terminal how far the tasks of a run are."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from bincount.local.airflow_api import TaskState

_WAITING = (None, "scheduled", "queued")
_ROWS = 20  # what a small terminal has room for
_MARKS = {"running": "▶", "success": "✔", "failed": "✘", "up_for_retry": "↻"}


class Progress:
    """A table that updates itself on a terminal, a line for each change elsewhere.

    Args:
        order: The names of the tasks to show, in the order in which they run.
        live: Whether there is a terminal; found out where None.
    """

    def __init__(self, order: Sequence[str], live: bool | None = None) -> None:
        self._order = order
        self._live = sys.stdout.isatty() if live is None else live
        self._shown: dict[str, tuple[str | None, int]] = {}
        self._since: dict[str, float] = {}
        self._screen: Any = None

    def context(self) -> AbstractContextManager[Any]:
        """What must be open while `show` is called."""
        if not self._live:
            return nullcontext()
        from rich.live import Live

        self._screen = Live(refresh_per_second=4)
        return self._screen

    def show(self, tasks: Sequence[TaskState]) -> None:
        """Takes the tasks as they are now."""
        tasks = sorted((one for one in tasks if one.name in self._order), key=self._place)
        for task in tasks:
            now = (task.state, task.attempt)
            if self._shown.get(task.label) == now:
                continue
            self._shown[task.label] = now
            self._since[task.label] = time.monotonic()
            if not self._live and task.state not in _WAITING:
                print(f"{time.strftime('%H:%M:%S')}  {self._line(task)}".rstrip(), flush=True)
        if self._screen is not None:
            self._screen.update(self._table(tasks))

    def _place(self, task: TaskState) -> tuple[int, int]:
        return self._order.index(task.name), task.map_index

    def _line(self, task: TaskState) -> str:
        again = f"attempt {task.attempt}" if task.attempt > 1 else ""
        return f"{task.label:<15} {task.state:<12} {self._seconds(task):>8}  {again}"

    def _seconds(self, task: TaskState) -> str:
        if task.state in _WAITING or task.state in ("skipped", "upstream_failed"):
            return ""
        if task.state == "running":  # Airflow tells the time of the attempt before
            seconds = time.monotonic() - self._since[task.label]
            return f"{seconds:.0f} s" if self._live else ""
        return f"{task.seconds:.1f} s" if task.seconds is not None else ""

    def _table(self, tasks: Sequence[TaskState]) -> Any:
        from rich.table import Table

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        crowded = len(tasks) > _ROWS
        for task in tasks:
            if crowded and task.map_index >= 0 and task.state in (*_WAITING, "success"):
                continue  # of many, those under way are of interest
            again = f"attempt {task.attempt}" if task.attempt > 1 else ""
            state = "" if task.state in _WAITING else str(task.state)
            table.add_row(_MARKS.get(state, "·"), task.label, state, self._seconds(task), again)
        return table

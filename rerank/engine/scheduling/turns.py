"""Whose turn it is: plans that wait to begin, and questions that wait to be asked.

Clients take turns question by question. Within a client the questions of one round stand together, so that a judge
can share what they have in common; a round gives at most a share of a call in one turn and then waits behind
the others. So neither a client nor a plan with very many questions holds up the rest.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator

from rerank.engine.scheduling.tasks import Entry, Task

__all__ = ["Turns"]

SHARES = 4
"""Of a call: a round gives at most one of them in a turn, and so many rounds at least are open at once."""


class Client:
    """What one client wants: plans not yet begun, plans at work, rounds of questions not yet asked."""

    def __init__(self, share: int) -> None:
        self.inbox: deque[Task] = deque()
        self.tasks: dict[Task, None] = {}  # in the order begun
        self._share = share
        self._rounds: deque[deque[Entry]] = deque()
        self._given = 0  # by the first round, in its present turn

    @property
    def idle(self) -> bool:
        """Nothing begun, nothing to begin."""
        return not (self.inbox or self.tasks or self._rounds)

    @property
    def load(self) -> int:
        """Questions that wait; a round counts for its share at most, so that a long one keeps nobody from beginning."""
        return sum(min(len(entries), self._share) for entries in self._rounds)

    def open(self, entries: deque[Entry]) -> None:
        """Put a round of questions behind the others."""
        self._rounds.append(entries)

    def next(self) -> Entry | None:
        """The next question, or None."""
        if not self._rounds:
            return None
        entry = self._rounds[0].popleft()
        self._given += 1
        if not self._rounds[0]:
            self._rounds.popleft()
            self._given = 0
        elif self._given >= self._share:
            self._rounds.rotate(-1)
            self._given = 0
        return entry


class Turns:
    """All clients.

    Args:
        at_once: the most questions in a call. A client begins no new plan while so many of its questions wait.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._clients: OrderedDict[Hashable, Client] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._clients)

    @property
    def tasks(self) -> list[Task]:
        """Every plan, at work or not yet begun."""
        return [task for client in self._clients.values() for task in (*client.tasks, *client.inbox)]

    def add(self, task: Task) -> None:
        """A plan that may begin when there is room."""
        self._client(task.client).inbox.append(task)

    @property
    def ready(self) -> bool:
        """Whether a plan may begin now."""
        return any(self._may_begin(client) for client in self._clients.values())

    def begin(self) -> Iterator[Task]:
        """Plans that may begin now; each is to be carried on before the next is taken, so that its questions count."""
        for client in list(self._clients.values()):
            while self._may_begin(client):
                task = client.inbox.popleft()
                if not task.done:
                    client.tasks[task] = None
                    yield task

    def open(self, task: Task, entries: list[Entry]) -> None:
        """A plan's questions that are to be asked."""
        if entries:
            self._client(task.client).open(deque(entries))

    def end(self, task: Task) -> None:
        """A plan is done."""
        if (client := self._clients.get(task.client)) is not None:
            client.tasks.pop(task, None)

    def take(self, count: int, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """At most `count` questions that are still wanted, one from each client in turn.

        Clients with nothing left are forgotten.
        """
        entries: list[Entry] = []
        turns = deque(self._clients.values())
        while turns and len(entries) < count:
            client = turns.popleft()
            if (entry := _next_wanted(client, wanted)) is not None:
                entries.append(entry)
                turns.append(client)
        for name in [name for name, client in self._clients.items() if client.idle]:
            del self._clients[name]
        if self._clients and entries:
            self._clients.move_to_end(next(iter(self._clients)))  # whoever began this time comes last next time
        return entries

    def clear(self) -> None:
        """Forget everybody."""
        self._clients.clear()

    def _may_begin(self, client: Client) -> bool:
        return bool(client.inbox) and len(client.tasks) < 2 * self._at_once and client.load < self._at_once

    def _client(self, name: Hashable) -> Client:
        if name not in self._clients:
            self._clients[name] = Client(max(1, self._at_once // SHARES))
        return self._clients[name]


def _next_wanted(client: Client, wanted: Callable[[Entry], bool]) -> Entry | None:
    while (entry := client.next()) is not None:
        if wanted(entry):
            return entry
    return None

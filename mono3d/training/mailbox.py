"""What a run says on its way, from the workers to the process that started it, and the answers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from mono3d.training.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Question:
    """May this run go on? Asked after an evaluation, when its checkpoint is written."""

    step: int
    """Optimiser steps done."""
    epoch: int
    """Epochs done."""
    metrics: Mapping[str, float]
    """Of the evaluation."""


Message = Progress | Question | str
"""A step forward, a question, or a line for the user."""


class Mailbox:
    """Messages in the order they came; an actor on a cluster, so nobody waits for a reader.

    Its methods are coroutines: a worker may wait for an answer while others leave messages.
    """

    def __init__(self) -> None:
        """Empty."""
        self._messages: list[Message] = []
        self._changed = asyncio.Condition()
        self._answers: dict[int, bool] = {}

    async def put(self, message: Message) -> None:
        """Leave a message."""
        self._messages.append(message)
        await self._tell()

    async def take(self, wait_s: float = 0.0) -> list[Message]:
        """All messages since the last call; waits up to `wait_s` seconds for a first one."""
        if not self._messages and wait_s > 0:
            try:
                async with asyncio.timeout(wait_s), self._changed:
                    await self._changed.wait_for(lambda: self._messages)
            except TimeoutError:
                pass
        messages, self._messages = self._messages, []
        return messages

    async def ask(self, question: Question) -> bool:
        """Leave a question and wait for its answer, however long that takes."""
        await self.put(question)
        async with self._changed:
            await self._changed.wait_for(lambda: question.step in self._answers)
        return self._answers.pop(question.step)

    async def answer(self, step: int, goes_on: bool) -> None:
        """Answer the question that was asked at a step."""
        self._answers[step] = goes_on
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

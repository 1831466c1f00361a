"""What a run says on its way, from the workers to the process that started it, and the answers."""

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

    Its methods return at once, so that Ray calls them in the order of each sender: with coroutines
    it would not, and later metrics could come before earlier ones.
    """

    def __init__(self) -> None:
        """Empty."""
        self._messages: list[Message] = []
        self._answers: dict[int, bool] = {}

    def put(self, message: Message) -> None:
        """Leave a message."""
        self._messages.append(message)

    def take(self) -> list[Message]:
        """All messages since the last call."""
        messages, self._messages = self._messages, []
        return messages

    def answer(self, step: int, goes_on: bool) -> None:
        """Answer the question that was asked at a step."""
        self._answers[step] = goes_on

    def answered(self, step: int) -> bool | None:
        """The answer to that question, None while there is none."""
        return self._answers.pop(step, None)

"""What a run says on its way, from the workers to the process that started it."""

from mono3d.training.progress import Progress

Message = Progress | str
"""A step forward, or a line for the user."""


class Mailbox:
    """Messages in the order they came; an actor on a cluster, so nobody waits for a reader."""

    def __init__(self) -> None:
        """Empty."""
        self._messages: list[Message] = []

    def put(self, message: Message) -> None:
        """Leave a message."""
        self._messages.append(message)

    def take(self) -> list[Message]:
        """All messages since the last call."""
        messages, self._messages = self._messages, []
        return messages

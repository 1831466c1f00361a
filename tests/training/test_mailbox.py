import subprocess
import sys

from mono3d.training.mailbox import Mailbox
from mono3d.training.progress import Progress


def test_messages_are_taken_once_in_their_order() -> None:
    mailbox = Mailbox()
    step = Progress(step=1, total_steps=2, epoch=0)
    mailbox.put("first")
    mailbox.put(step)
    assert mailbox.take() == ["first", step]
    assert mailbox.take() == []
    mailbox.put("later")
    assert mailbox.take() == ["later"]


def test_imports_no_torch() -> None:
    probe = "import sys, mono3d.training.mailbox; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    assert answer.stdout.strip() == b"False"

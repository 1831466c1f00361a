import inspect
import subprocess
import sys

from mono3d.training.mailbox import Mailbox, Question
from mono3d.training.progress import Progress

QUESTION = Question(step=8, epoch=1, metrics={"val/score": 0.5})


def test_messages_are_taken_once_in_their_order() -> None:
    mailbox = Mailbox()
    step = Progress(step=1, total_steps=2, epoch=0)
    mailbox.put("first")
    mailbox.put(step)
    assert mailbox.take() == ["first", step]
    assert mailbox.take() == []
    mailbox.put("later")
    assert mailbox.take() == ["later"]


def test_an_answer_is_that_to_its_question_and_is_given_once() -> None:
    mailbox = Mailbox()
    mailbox.put(QUESTION)
    assert mailbox.take() == [QUESTION]
    assert mailbox.answered(QUESTION.step) is None
    mailbox.answer(QUESTION.step - 1, True)
    mailbox.answer(QUESTION.step, False)
    assert mailbox.answered(QUESTION.step) is False
    assert mailbox.answered(QUESTION.step) is None


def test_methods_are_no_coroutines_so_that_ray_keeps_their_order() -> None:
    methods = [member for _, member in inspect.getmembers(Mailbox, inspect.isfunction)]
    assert len(methods) >= 4
    assert not any(map(inspect.iscoroutinefunction, methods))


def test_imports_no_torch() -> None:
    probe = "import sys, mono3d.training.mailbox; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    assert answer.stdout.strip() == b"False"

import asyncio
import subprocess
import sys

from mono3d.training.mailbox import Mailbox, Question
from mono3d.training.progress import Progress

QUESTION = Question(step=8, epoch=1, metrics={"val/score": 0.5})


def test_messages_are_taken_once_in_their_order() -> None:
    async def talk() -> None:
        mailbox = Mailbox()
        step = Progress(step=1, total_steps=2, epoch=0)
        await mailbox.put("first")
        await mailbox.put(step)
        assert await mailbox.take() == ["first", step]
        assert await mailbox.take() == []
        await mailbox.put("later")
        assert await mailbox.take() == ["later"]

    asyncio.run(talk())


def test_a_reader_waits_for_the_first_message_and_no_longer_than_it_said() -> None:
    async def talk() -> None:
        mailbox = Mailbox()
        reader = asyncio.create_task(mailbox.take(60.0))
        await asyncio.sleep(0)
        await mailbox.put("here")
        assert await asyncio.wait_for(reader, 5.0) == ["here"]
        assert await asyncio.wait_for(mailbox.take(0.01), 5.0) == []

    asyncio.run(talk())


def test_who_asks_waits_for_the_answer_to_this_question() -> None:
    async def talk(goes_on: bool) -> None:
        mailbox = Mailbox()
        asked = asyncio.create_task(mailbox.ask(QUESTION))
        assert await mailbox.take(5.0) == [QUESTION]
        await mailbox.answer(QUESTION.step - 1, not goes_on)
        await mailbox.put("others go on meanwhile")
        assert not asked.done()
        await mailbox.answer(QUESTION.step, goes_on)
        assert await asyncio.wait_for(asked, 5.0) is goes_on

    asyncio.run(talk(True))
    asyncio.run(talk(False))


def test_imports_no_torch() -> None:
    probe = "import sys, mono3d.training.mailbox; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    assert answer.stdout.strip() == b"False"

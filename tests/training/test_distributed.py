"""One process; three are in test_distributed_resume.py."""

from mono3d.training.distributed import distribute, share_buffers
from mono3d.training.parts import Place
from mono3d.training.train_module import TrainModule
from tests.support.training import state_digests, tiny_config, tiny_parts


def test_one_process_is_left_as_it_is() -> None:
    parts = tiny_parts(tiny_config(), Place())
    before = state_digests(parts.state)
    distribute(parts.state, parts.loader)
    share_buffers(parts.state)
    assert isinstance(parts.state.module, TrainModule)
    assert state_digests(parts.state) == before

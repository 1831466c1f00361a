from dataclasses import replace

import pytest
import torch

from mono3d.codec.points import level_size
from mono3d.errors import DataError
from mono3d.model.depth_input import DepthInput
from tests.support.detectors import make_center_detector, make_detector
from tests.support.frames import make_batch, make_codec, surround_frame

CODEC = make_codec()


def test_a_new_branch_tells_nothing() -> None:
    branch = DepthInput(CODEC.depth, channels=8)
    told = branch(torch.full((2, 1, 24, 40), 7.0), torch.tensor([80.0, 80.0]), (8, 16))
    assert [list(level.shape) for level in told] == [[2, 8, 3, 5], [2, 8, 2, 3]]
    assert not any(level.any() for level in told)


@pytest.mark.parametrize("size", [(24, 40), (25, 47)])
def test_cells_are_told_the_mean_of_their_known_pixels(size: tuple[int, int]) -> None:
    """Each cell holds one known pixel: sparse depth is not thinned by the unknown ones."""
    branch = DepthInput(CODEC.depth, channels=8)
    seen: list[torch.Tensor] = []
    branch.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    sparse = torch.zeros(1, 1, *size)
    sparse[..., ::8, ::8] = 12.0
    focal = torch.tensor([160.0])
    branch(sparse, focal, (8,))
    assert seen[0].shape[-2:] == level_size(size, 8)
    expected = CODEC.depth.encode(torch.tensor(12.0), torch.tensor(160.0))
    torch.testing.assert_close(seen[0][:, 0], torch.full_like(seen[0][:, 0], float(expected)))
    assert bool((seen[0][:, 1] == 1).all())


def test_unknown_depth_is_told_as_unknown() -> None:
    branch = DepthInput(CODEC.depth, channels=8)
    seen: list[torch.Tensor] = []
    branch.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    branch(torch.zeros(1, 1, 16, 16), torch.tensor([80.0]), (8,))
    assert not seen[0].any()


@pytest.mark.parametrize("make", [make_detector, make_center_detector])
def test_a_detector_that_reads_depth_is_the_one_that_does_not_with_more_weights(make) -> None:  # type: ignore[no-untyped-def]
    plain, teacher = make().state_dict(), make(reads_depth=True).state_dict()
    more = teacher.keys() - plain.keys()
    assert plain.keys() <= teacher.keys()
    assert {name.rsplit(".", 2)[0] for name in more} == {"trunk.depth_input"}


@pytest.mark.parametrize("make", [make_detector, make_center_detector])
def test_only_a_teacher_looks_at_true_depth(make) -> None:  # type: ignore[no-untyped-def]
    batch = make_batch([surround_frame(0)], CODEC, depth_input="objects")
    nearer = replace(batch, depth_input=batch.depth_input / 2)
    for reads_depth in (False, True):
        network = make(reads_depth=reads_depth).eval()
        said, other = network(batch), network(nearer)
        for name in said.responses:
            if name != "depth_slope":
                changes = not torch.equal(said.responses[name], other.responses[name])
                assert changes == reads_depth, name
        neck = next(name for name in said.features if name.startswith("neck_"))
        assert torch.equal(said.features[neck], other.features[neck]) != reads_depth


def test_a_teacher_without_depth_says_so() -> None:
    batch = make_batch([surround_frame(0)], CODEC)
    with pytest.raises(DataError, match=r"model\.depth_input reads true depth: none is given"):
        make_detector(reads_depth=True)(batch)

"""What each mining policy makes of labels that are known to be wrong.

    .venv/bin/python docs/studies/weights_of_wrong_labels.py CHECKPOINT DATA CLEAN

CHECKPOINT is one of a study's runs without mining, DATA its folder with wrong labels and CLEAN the
same world without them (`mono3d data synth` with the same options but --biased-labels): pictures
are the same, so a sample's label is wrong where the two folders differ. Every policy, in full,
weighs the same samples of the same network; what it remembers it gathers on the first frames.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mono3d.comparison.variants import Variant, load_variants
from mono3d.config.load import apply_overrides, parse
from mono3d.config.schema import RunConfig
from mono3d.data.loaders import Preparation, evaluation_batches
from mono3d.objectives.protocol import StepContext
from mono3d.structures import Batch
from mono3d.training.assembly import build_preparation, build_train_module
from mono3d.training.checkpoint import load_student, read_metadata
from mono3d.training.datasets import build_dataset
from mono3d.training.model_assembly import build_codec

BATCH = 16
WARM_UP = 20
"""Batches whose weights do not count yet."""
HIDDEN = 0.4
"""Visible share below which an object counts as hidden."""
PAST_RAMP = 100.0


def batches(config: RunConfig, root: str) -> Iterator[Batch]:
    """The training frames of a folder as training sees them, but unmirrored and in their order."""
    config = parse(
        apply_overrides(
            config.model_dump(mode="json"), [("data.root", root), ("input.flip_probability", 0)]
        ),
        source="checkpoint",
    )
    dataset = build_dataset(config, "train")
    preparation: Preparation = build_preparation(config, build_codec(config), training=True)
    indices = np.random.default_rng(0).permutation(len(dataset)).tolist()
    return evaluation_batches(dataset, preparation, indices, batch_size=BATCH, num_workers=0)


def true_depths(batch: Batch, clean: Batch) -> tuple[Tensor, Tensor]:
    """Of each positive of `batch` its label's depth over the true one, and its visible share."""
    slot = batch.positives.slot[:, 0]
    boxes = batch.boxes_cam
    own_ids = boxes.object_ids[:, 0].gather(1, slot)
    same = own_ids[:, :, None] == clean.boxes_cam.object_ids[:, 0][:, None]
    same &= clean.boxes_cam.valid[:, 0][:, None]
    true_m = torch.where(same, clean.boxes_cam.centers[:, 0, :, 2][:, None], 0.0).amax(-1)
    said_m = boxes.centers[:, 0, :, 2].gather(1, slot)
    ratio = torch.where(true_m > 0, said_m / true_m, torch.nan)
    return ratio, boxes.visibility[:, 0].gather(1, slot)


def _is_mining_alone(variant: Variant) -> bool:
    return not variant.times and all(path.startswith("mining.") for path in variant.set)


def main(checkpoint: str, root: str, clean_root: str, warm_up: int = WARM_UP) -> None:
    """Print mean weights by policy, and by whether label and object are sound and seen."""
    tree = dict(read_metadata(checkpoint).config)
    weights: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    modules = {}
    for name, variant in load_variants("mining").variants.items():
        if variant.set.get("mining.kind") == "lss" or not _is_mining_alone(variant):
            continue  # another network, or another loss
        config = parse(apply_overrides(tree, variant.set.items()), source=name)
        modules[name] = build_train_module(config)
        load_student(checkpoint, modules[name].student)
        modules[name].student.eval()
    config = parse(tree, source=checkpoint)
    pairs = zip(batches(config, root), batches(config, clean_root), strict=True)
    for number, (batch, clean) in enumerate(pairs):
        ratio, visible = true_depths(batch, clean)
        known = batch.positives.valid[:, 0] & ratio.isfinite()
        wrong = ratio > 1.05
        groups = {
            "wrong, hidden": known & wrong & (visible < HIDDEN),
            "wrong, seen": known & wrong & (visible >= HIDDEN),
            "true, hidden": known & ~wrong & (visible < HIDDEN),
            "true, seen": known & ~wrong & (visible >= HIDDEN),
        }
        context = StepContext(
            num_samples=known.sum().float(),
            num_images=len(known),
            world_size=1,
            progress=PAST_RAMP,
            with_statistics=False,
        )
        predictions = None
        for name, module in modules.items():
            with torch.no_grad():
                predictions = predictions or module.student(batch)
                found = module.objective.mined_weights(predictions, batch, context)
            if number >= warm_up:
                for group, members in groups.items():
                    weights[name][group].append(found[members])
    groups_seen = list(weights["none"])
    counts = {group: sum(map(len, weights["none"][group])) for group in groups_seen}
    total = sum(counts.values())
    print("| policy | " + " | ".join(groups_seen) + " | weight on wrong labels |")
    print("|" + " --- |" * (len(groups_seen) + 2))
    shares = " | ".join(f"{100 * counts[group] / total:.1f} %" for group in groups_seen)
    wrong_share = sum(n for group, n in counts.items() if group.startswith("wrong")) / total
    print(f"| samples | {shares} | {100 * wrong_share:.1f} % |")
    for name, by_group in weights.items():
        means = " | ".join(f"{float(torch.cat(by_group[g]).mean()):.2f}" for g in groups_seen)
        sums = {group: float(torch.cat(by_group[group]).sum()) for group in groups_seen}
        wrong_sum = sum(value for group, value in sums.items() if group.startswith("wrong"))
        print(f"| {name} | {means} | {100 * wrong_sum / sum(sums.values()):.1f} % |")


if __name__ == "__main__":
    main(sys.argv[1], str(Path(sys.argv[2])), str(Path(sys.argv[3])))

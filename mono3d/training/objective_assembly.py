"""From a config to the objective of a detector's family: its losses, mining and selection."""

from typing import Any, assert_never

from mono3d.codec.anchors import AnchorCodec
from mono3d.codec.bev_center import BevCenterCodec
from mono3d.codec.center import CenterCodec
from mono3d.codec.dense import DenseCodec
from mono3d.config.iou_sections import (
    ChosenIouLoss,
    DiouConfig,
    GciouConfig,
    GiouConfig,
    IouConfig,
    IouLossConfig,
    LogIouConfig,
    NoIouLoss,
    RdiouConfig,
)
from mono3d.config.mining_sections import (
    EasyTopkConfig,
    FocalMiningConfig,
    GhmMiningConfig,
    GmmMiningConfig,
    MiningConfig,
    NoMining,
    OhemConfig,
    PisaMiningConfig,
    RangeCutConfig,
    SelectionConfig,
)
from mono3d.config.model_sections import AnchorHeadConfig, GridModel
from mono3d.config.schema import RunConfig
from mono3d.objectives.bev import BevObjective
from mono3d.objectives.bev_anchor import AnchorObjective
from mono3d.objectives.bev_center import BevCenterObjective
from mono3d.objectives.center import CenterObjective
from mono3d.objectives.dense import DenseObjective
from mono3d.objectives.detection import PointObjective
from mono3d.objectives.iou_term import IouTerm
from mono3d.objectives.losses.gciou import GciouLoss
from mono3d.objectives.losses.iou import (
    IouLoss,
    diou_loss,
    giou_loss,
    iou_loss,
    log_iou_loss,
    rdiou_loss,
)
from mono3d.objectives.mining.easy_topk import EasyTopk
from mono3d.objectives.mining.focal import FocalMining
from mono3d.objectives.mining.ghm import GhmMining
from mono3d.objectives.mining.gmm import GmmMining
from mono3d.objectives.mining.ohem import Ohem
from mono3d.objectives.mining.pisa import PisaMining
from mono3d.objectives.mining.protocol import Mining
from mono3d.objectives.mining.range_cut import RangeCut
from mono3d.objectives.mining.uniform import Uniform
from mono3d.objectives.selection import Selection
from mono3d.objectives.weights import LossWeights
from mono3d.training.model_assembly import Codec


def build_objective(config: RunConfig, codec: Codec) -> PointObjective | BevObjective:
    """Losses and mining of the codec's family."""
    own = {"depth_loss", "depth_gamma", "depth_foreground"}
    common: dict[str, Any] = {
        "class_names": config.data.class_names,
        "mining": build_mining(config.mining),
        "weights": LossWeights(**config.loss.model_dump(exclude=own)),
    }
    of_points: dict[str, Any] = {
        **common,
        "selection": build_selection(config.mining),
        "depth_loss": config.loss.depth_loss,
        "iou_term": build_iou_term(config.iou_loss),
    }
    on_grid: dict[str, Any] = {
        **common,
        "depth_gamma": config.loss.depth_gamma,
        "depth_foreground": config.loss.depth_foreground,
    }
    match codec:
        case DenseCodec():
            return DenseObjective(codec=codec, **of_points)
        case CenterCodec():
            return CenterObjective(codec=codec, **of_points)
        case AnchorCodec():
            head = config.model.head if isinstance(config.model, GridModel) else None
            has_quality = isinstance(head, AnchorHeadConfig) and head.has_quality
            return AnchorObjective(codec=codec, has_quality=has_quality, **on_grid)
        case BevCenterCodec():
            return BevCenterObjective(codec=codec, **on_grid)
        case _:
            assert_never(codec)


def build_iou_term(config: IouLossConfig) -> IouTerm | None:
    """The loss of whole boxes, if one is wanted."""
    if isinstance(config, NoIouLoss):
        return None
    return IouTerm(
        loss=build_iou_loss(config),
        weight=config.weight,
        warmup_epochs=config.warmup_epochs,
        ramp_epochs=config.ramp_epochs,
        depth_aligned=config.depth_aligned,
    )


def build_iou_loss(config: ChosenIouLoss) -> IouLoss:
    """A loss of whole boxes."""
    match config:
        case IouConfig():
            return iou_loss
        case LogIouConfig():
            return log_iou_loss
        case GiouConfig():
            return giou_loss
        case DiouConfig():
            return diou_loss
        case RdiouConfig():
            return rdiou_loss
        case GciouConfig():
            return GciouLoss(
                alpha=config.alpha,
                yaw_penalty=config.yaw_penalty,
                rescale=config.rescale,
                min_iou=config.min_iou,
            )
        case _:
            assert_never(config)


def build_mining(config: MiningConfig) -> Mining:
    """A mining strategy; that of learnt selection counts all samples alike."""
    settings = config.model_dump(exclude={"kind"})
    mining: Mining
    match config:
        case NoMining() | SelectionConfig():
            mining = Uniform()
        case GmmMiningConfig():
            mining = GmmMining(**settings)
        case OhemConfig():
            mining = Ohem(**settings)
        case EasyTopkConfig():
            mining = EasyTopk(**settings)
        case FocalMiningConfig():
            mining = FocalMining(**settings)
        case GhmMiningConfig():
            mining = GhmMining(**settings)
        case PisaMiningConfig():
            mining = PisaMining(**settings)
        case RangeCutConfig():
            mining = RangeCut(**settings)
        case _:
            assert_never(config)
    return mining


def build_selection(config: MiningConfig) -> Selection | None:
    """Learnt selection, if it is wanted; the detector needs its branch then."""
    if not isinstance(config, SelectionConfig):
        return None
    return Selection(**config.model_dump(exclude={"kind"}))

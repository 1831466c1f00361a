"""Files of variants: what they make of a recipe, and what they may not say."""

from pathlib import Path

import pytest

from mono3d.comparison.variants import load_variants, plan_cells, study_names
from mono3d.config.load import load_recipe, recipe_names
from mono3d.config.mining_sections import GmmMiningConfig
from mono3d.errors import ConfigError

FILE = """
metric: val/nuscenes_map
mode: max
baseline: plain
variants:
  plain: {set: {mining.kind: none}}
  mined: {about: "Mining.", set: {mining.kind: gmm, mining.sharpness: 3}}
  heavy: {set: {mining.kind: none}, times: {loss.depth: 2}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(FILE)
    return path


def test_cells_are_all_variants_of_a_seed_then_of_the_next(file: Path) -> None:
    cells = plan_cells("demo", ["loss.depth=1.5"], load_variants(str(file)), [3, 5])
    assert [cell.label for cell in cells] == [
        "plain-seed3", "mined-seed3", "heavy-seed3", "plain-seed5", "mined-seed5", "heavy-seed5",
    ]  # fmt: skip
    assert [cell.config.seed for cell in cells] == [3] * 3 + [5] * 3
    assert [cell.config.loss.depth for cell in cells[:3]] == [1.5, 1.5, 3.0]
    mined = cells[1].config.mining
    assert (mined.kind, getattr(mined, "sharpness", None)) == ("gmm", 3)


def test_variants_differ_in_nothing_else(file: Path) -> None:
    plain, mined, heavy = plan_cells("demo", [], load_variants(str(file)), [0])
    assert plain.config.model_copy(update={"mining": mined.config.mining}) == mined.config
    assert plain.config.model_copy(update={"loss": heavy.config.loss}) == heavy.config


def test_only_keeps_the_baseline(file: Path) -> None:
    assert list(load_variants(str(file)).only(["heavy"]).variants) == ["plain", "heavy"]


def test_another_baseline_changes_no_run(file: Path) -> None:
    spec = load_variants(str(file))
    other = spec.against("mined")
    assert other.baseline == "mined"
    assert plan_cells("demo", [], other, [0]) == plan_cells("demo", [], spec, [0])
    assert list(other.only(["heavy"]).variants) == ["mined", "heavy"]


@pytest.mark.parametrize("names", [["plain"], ["mined", "nothing"]])
def test_only_says_what_it_cannot_keep(file: Path, names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^--only "):
        load_variants(str(file)).only(names)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("baseline: plain", "baseline: none", "baseline=none: is none of plain, mined, heavy"),
        ("metric: val", "metrik: val", "metrik: Extra inputs are not permitted"),
        ("mode: max", "mode: most", "mode: Input should be 'min' or 'max'"),
        ("mined: {", "'a b': {", "variants.a b: a name is letters"),
        ("{mining.kind: none}", "{seed: 7}", "seed: is --seeds"),
        ("{mining.kind: none}", "{mining: {kind: none}}", "mining: is set key by key"),
        ("variants:", "variants: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_named_with_the_key_and_the_rule(
    file: Path, before: str, after: str, message: str
) -> None:
    file.write_text(FILE.replace(before, after))
    with pytest.raises(ConfigError) as error:
        load_variants(str(file))
    assert str(error.value).startswith(str(file))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match=r"nothing.yaml: neither a file nor .*mining"):
        load_variants("nothing.yaml")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("mining.sharpness: 3", "mining.sharpnes: 3", "variant mined: unknown key mining.sharpnes"),
        ("mining.sharpness: 3", "mining.floor: 3", "variant mined: mining.floor=3"),
        ("loss.depth: 2", "mining.kind: 2", "times.mining.kind: there is no number"),
        ("loss.depth: 2", "loss.deep: 2", "times.loss.deep: there is no number"),
    ],
)
def test_a_variant_that_does_not_fit_fails_before_the_first_run(
    file: Path, before: str, after: str, message: str
) -> None:
    file.write_text(FILE.replace(before, after))
    with pytest.raises(ConfigError, match=message):
        plan_cells("demo", [], load_variants(str(file)), [0])


def test_mining_begins_at_the_same_time_in_every_variant_and_else_has_its_own_defaults() -> None:
    spec = load_variants("mining")
    cells = plan_cells("demo", ["mining.warmup_epochs=0.5"], spec, [0])
    begins = {getattr(cell.config.mining, "warmup_epochs", 0.5): cell.variant for cell in cells}
    assert list(begins) == [0.5]
    in_images = [n for n in recipe_names() if load_recipe(n).model.kind in {"dense", "center"}]
    for recipe in in_images:  # kitti_gmm has settings of its own, which are GMM's alone
        mined = [cell.config.mining for cell in plan_cells(recipe, [], spec, [0])]
        assert len({(m.warmup_epochs, m.ramp_epochs) for m in mined if m.kind != "none"}) == 1
        (gmm,) = (c for c in plan_cells(recipe, [], spec, [0]) if c.variant == "gmm")
        assert gmm.config.mining.sharpness == GmmMiningConfig().sharpness  # type: ignore[union-attr]


def test_a_setting_of_mining_that_variants_would_drop_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^mining.sharpness=3: variant none chooses its own"):
        plan_cells("demo", ["mining.sharpness=3"], load_variants("mining"), [0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("model.has_uncertainty=true", "model.has_uncertainty=True: the file of variants decides"),
        ("mining.kind=gmm", "mining.kind=gmm: the file of variants decides that for none"),
        ("loss.depth_loss=laplace", "that for none; say it there"),
        ("seed=9", "seed=9: the seeds of a study are those of --seeds"),
    ],
)
def test_what_the_file_decides_the_command_line_cannot(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan_cells("demo", [given], load_variants("mining"), [0])
    assert message in str(error.value)


def test_mining_that_all_variants_share_is_the_file_s_too(file: Path) -> None:
    file.write_text(
        FILE.replace("{mining.kind: none}", "{loss.dims: 0.5}") + "set: {mining.kind: gmm}\n"
    )
    with pytest.raises(ConfigError, match=r"^mining.sharpness=9: .* its own mining"):
        plan_cells("demo", ["mining.sharpness=9"], load_variants(str(file)), [0])


def test_a_file_that_is_no_text_is_named(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"study.yaml: cannot be read"):
        load_variants(str(file))


def test_variants_that_are_the_same_run_are_refused(file: Path) -> None:
    file.write_text(FILE.replace("mining.sharpness: 3", "mining.sharpness: 4"))
    file.write_text(file.read_text() + "  again: {set: {mining.kind: gmm}}\n")
    with pytest.raises(ConfigError, match="variants mined and again: are the same run of demo"):
        plan_cells("demo", [], load_variants(str(file)), [0])


def test_what_all_variants_have_stands_once(file: Path) -> None:
    file.write_text(FILE + "set: {loss.dims: 0.25}\n")
    cells = plan_cells("demo", [], load_variants(str(file)), [0])
    assert {cell.config.loss.dims for cell in cells} == {0.25}


def is_meant_for(study: str, recipe: str) -> bool:
    """Whether a study's variants are changes that make sense of a recipe."""
    config = load_recipe(recipe)
    if study == "add":  # they change how a teacher teaches
        return config.distillation.kind == "add"
    if study.startswith("bev"):  # they name teachers on one grid
        return recipe == "bev_study"
    return config.model.kind not in {"bev", "lidar"}


@pytest.mark.parametrize(
    ("study", "recipe"),
    [(s, r) for s in study_names() for r in recipe_names() if is_meant_for(s, r)],
)
def test_every_shipped_study_fits_every_recipe_that_it_is_for(study: str, recipe: str) -> None:
    spec = load_variants(study)
    overrides = ["data.root=x"] if recipe != "demo" else []
    cells = plan_cells(recipe, overrides, spec, [0])
    assert len(cells) == len(spec.variants)
    assert all(variant.about for variant in spec.variants.values())

"""A recipe: the same features from its account, and no other's taken for them."""

from pathlib import Path

import numpy as np
import pytest
import stand_ins
from stand_ins import Extractor, medium

from vmr.errors import UserError
from vmr.media import recipe as recipes
from vmr.media.recipe import Recipe, extract, require_same


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    stand_ins.install(monkeypatch.setitem)


def test_pictures_are_averaged_over_the_whole_or_over_clips(tmp_path):
    file = medium(tmp_path / "a.mp4", 0, 64, 64, 128, 192, packets_lost=3)
    whole = extract(file, Recipe("video", "stand_in"), Extractor("video"))
    shares = np.array([0, 0.25, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(whole.features, [shares.mean(), (shares**2).mean(), 1], 1e-6)
    assert whole.features.dtype == np.float32
    assert (whole.seconds, whole.frames, whole.damage.packets_lost) == (5.0, 5, 3)

    clips = extract(file, Recipe("video", "stand_in", 2), Extractor("video")).features
    # A last second of half a clip is a clip of its own.
    np.testing.assert_allclose(clips[:, 0], [0.125, 0.375, 0.75])


def test_a_picture_that_stays_is_worked_out_once(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "_AT_ONCE", 2)
    file = medium(tmp_path / "a.mp4", 1, 1, 1, 2, 2, 1, 3, 4)
    extractor = Extractor("video")
    found = extract(file, Recipe("video", "stand_in", 1.0), extractor).features
    assert extractor.asked == [2, 2, 1]
    np.testing.assert_allclose(found[:, 0] * 256, [1, 1, 1, 2, 2, 1, 3, 4])


def test_sound_is_whole_or_in_clips(tmp_path):
    file = medium(tmp_path / "a.ogg", 0, 64, 128)
    whole = extract(file, Recipe("music", "stand_in"), Extractor("music"))
    np.testing.assert_allclose(whole.features, [0.25, 0.0625, 1])
    assert (whole.seconds, whole.frames) == (3.0, 0)
    clips = extract(file, Recipe("music", "stand_in", 1), Extractor("music")).features
    np.testing.assert_allclose(clips[:, 0], [0, 0.25, 0.5])


@pytest.mark.parametrize("side", ["video", "music"])
def test_features_that_are_not_finite_are_refused(tmp_path, side):
    file = medium(tmp_path / "a", 99)
    with pytest.raises(UserError, match=r"a: stand_in gives features that are not finite"):
        extract(file, Recipe(side, "stand_in"), Extractor(side))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("video", "stand_in", 2.5, per_second=0.5, keyframes=True),
        Recipe("video", "stand_in"),
        Recipe("music", "stand_in"),
        Recipe("music", "stand_in", 10.0),
    ],
)
def test_an_account_is_enough_to_make_the_recipe_again(recipe):
    account = recipe.account()
    assert Recipe.of_account(account) == recipe
    assert account["licence"] == "CC0"
    assert account["sha256"] is None
    assert ("keyframes" in account) == (recipe.side == "video")
    assert require_same(account, Recipe.of_account(account).account(), "x") == ""


def test_the_file_of_an_onnx_model_is_asked_for(tmp_path):
    account = Recipe("music", "stand_in").account() | {"extractor": "onnx:net.onnx"}
    with pytest.raises(UserError, match=r"of music is onnx:net\.onnx: give its file by --onnx"):
        Recipe.of_account(account)
    with pytest.raises(UserError, match="no-such: no such file"):
        Recipe.of_account(account, tmp_path / "no-such")
    (tmp_path / "moved.onnx").touch()
    found = Recipe.of_account(account, tmp_path / "moved.onnx")
    assert found.extractor == f"onnx:{tmp_path / 'moved.onnx'}"
    assert (
        Recipe("music", "onnx:a.onnx").absolute().extractor == f"onnx:{Path('a.onnx').absolute()}"
    )
    assert Recipe("music", "stand_in").absolute() == Recipe("music", "stand_in")
    with pytest.raises(UserError, match="the extractor is stand_in, which has no such file"):
        Recipe.of_account(account | {"extractor": "stand_in"}, tmp_path / "moved.onnx")


def test_other_recipes_are_refused_and_other_versions_remarked():
    mine = Recipe("video", "stand_in", 2.0).account()
    for key, value in {
        "extractor": "b",
        "clip_seconds": None,
        "keyframes": True,
        "sha256": "f",
    }.items():
        told = "whole" if value is None else value
        with pytest.raises(
            UserError, match=rf"clip.mp4 has {key} {told}; expected {key} {mine[key]}"
        ):
            require_same(mine, mine | {key: value}, "clip.mp4")
    one, other = ({"extractor": f"onnx:{name}", "sha256": name} for name in "ab")
    with pytest.raises(
        UserError, match="has extractor onnx:b, sha256 b; expected extractor onnx:a"
    ):
        require_same(mine | one, mine | other, "clip.mp4")
    remark = require_same(mine, mine | {"version": "2", "licence": "MIT"}, "clip.mp4")
    assert remark == "clip.mp4 is of stand_in 2, not 1: features may differ slightly"
    remark = require_same(mine, mine | {"version": None}, "x")
    assert remark.startswith("x is of stand_in of unknown version, not 1: ")
    with pytest.raises(
        UserError, match="has keyframes None, per_second None; expected keyframes F"
    ):
        require_same(mine, Recipe("music", "stand_in", 2.0).account(), "x")


def test_a_file_of_one_content_may_have_another_name():
    mine = Recipe("music", "stand_in").account() | {"extractor": "onnx:a.onnx", "sha256": "f" * 64}
    assert require_same(mine, mine | {"extractor": "onnx:b.onnx"}, "x") == ""
    with pytest.raises(UserError, match="x has sha256 eee"):
        require_same(mine, mine | {"sha256": "e" * 64}, "x")

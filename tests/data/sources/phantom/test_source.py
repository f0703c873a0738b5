import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medvision.data.sources.phantom.anatomy import Ellipsoid, ScanGrid, draw_body
from medvision.data.sources.phantom.cohort import Settings, deal_patients, draw_lesions
from medvision.data.sources.phantom.scanner import SITES, acquire
from medvision.data.sources.phantom.source import find as make_phantom
from medvision.errors import MedvisionError

SMALL = {"patients": 16, "slices": 4, "size": 64}


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    return make_phantom(output=tmp_path_factory.mktemp("easy"), **SMALL, difficulty=0.0)


@pytest.fixture(scope="module")
def invisible(tmp_path_factory):
    return make_phantom(output=tmp_path_factory.mktemp("invisible"), **SMALL, difficulty=1.0)


def load(table, column="path"):
    """Images or masks [N, H, W], one a row."""
    return np.stack(
        [np.load(path)[frame] for path, frame in zip(table[column], table.frame, strict=True)]
    )


def relative(table, folder):
    return table.assign(**{c: table[c].str.replace(str(folder), "") for c in ("path", "mask")})


def test_a_seed_replays_bit_for_bit_whatever_the_workers(tmp_path):
    one = make_phantom(output=tmp_path / "one", **SMALL, duplicates=1, workers=1).table
    two = make_phantom(output=tmp_path / "two", **SMALL, duplicates=1, workers=3).table
    pd.testing.assert_frame_equal(relative(one, tmp_path / "one"), relative(two, tmp_path / "two"))
    for column in ("path", "mask"):
        np.testing.assert_array_equal(load(one, column), load(two, column))


def test_another_seed_is_another_set(easy, tmp_path):
    other = make_phantom(output=tmp_path, **SMALL, difficulty=0.0, seed=1).table
    assert not (load(other) == load(easy.table)).all(axis=(1, 2)).any()


def test_rows_say_what_the_masks_hold(easy):
    table, masks = easy.table, load(easy.table, "mask")
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) == {0, 1}
    np.testing.assert_array_equal(table.lesion_px, masks.sum(axis=(1, 2)))
    np.testing.assert_array_equal(table.label == "lesion", table.lesion_px > 0)
    np.testing.assert_array_equal(table.x_lesions > 0, table.lesion_px > 0)
    np.testing.assert_array_equal(table.x_contrast_hu < 0, table.lesion_px > 0)
    ill = table.groupby("patient").lesion_px.transform("sum") > 0
    np.testing.assert_array_equal(table.series_label == "lesion", ill)
    assert ((table.label == "healthy") & ill).any()


def test_boxes_are_tight_around_all_lesions(easy):
    for row, mask in zip(easy.table.itertuples(), load(easy.table, "mask"), strict=True):
        rest = mask.copy()
        boxes = [[int(n) for n in box.split()] for box in row.boxes.split("|") if box]
        assert len(boxes) == row.x_lesions
        for x0, y0, x1, y1 in boxes:
            inside = mask[y0:y1, x0:x1]
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            rest[y0:y1, x0:x1] = 0
        assert not rest.any()


def test_stacks_are_hounsfield_units_of_a_body_in_air(easy):
    images = load(easy.table)
    assert images.dtype == np.int16
    assert images.shape == (64, 64, 64)
    assert abs(images[:, :6, :6].mean() + 1000) < 5
    assert -1024 <= images.min() < -990
    assert 250 < images.max() < 900
    in_body = (images > -300).mean(axis=(1, 2))
    assert ((in_body > 0.25) & (in_body < 0.75)).all()
    assert easy.table.position_mm.iloc[:4].tolist() == [0, 18, 36, 54]


def test_lesions_grow_in_the_liver(invisible):
    images, masks = load(invisible.table), load(invisible.table, "mask")
    means = [
        image[mask > 0].mean() for image, mask in zip(images, masks, strict=True) if mask.any()
    ]
    assert len(means) > 8
    assert min(means) > 30
    assert max(means) < 150


def test_a_lesion_adds_its_contrast_and_nothing_elsewhere(easy, invisible):
    added = load(easy.table).astype(float) - load(invisible.table)
    masks = load(easy.table, "mask")
    healthy = easy.table.label == "healthy"
    near = easy.table.series_label == "lesion"  # a ball's rim may reach past its mask
    assert (added[healthy & ~near] == 0).all()
    single = (easy.table.x_lesions == 1) & (easy.table.lesion_px > 25)
    assert single.sum() >= 5
    rows = easy.table[single].itertuples()
    for row, change, mask in zip(rows, added[single], masks[single], strict=True):
        assert change[mask > 0].mean() / row.x_contrast_hu == pytest.approx(0.85, abs=0.15)
        assert abs(change[mask == 0].mean()) < 3


def test_lesions_fade_with_difficulty(invisible, tmp_path):
    masks = load(invisible.table, "mask") > 0
    ordinary = load(invisible.table)[masks]

    def separability(difficulty):
        table = make_phantom(
            output=tmp_path / str(difficulty), **SMALL, difficulty=difficulty
        ).table
        pixels = np.r_[load(table)[masks], ordinary]
        return roc_auc_score(np.repeat([1, 0], masks.sum()), -pixels)

    scores = [separability(difficulty) for difficulty in (0.2, 0.5, 0.8, 0.95)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.98
    assert 0.7 < scores[2] < 0.9
    assert 0.5 < scores[3] < 0.65


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_scanner_has_the_noise_and_gain_it_states(site):
    water = Ellipsoid((0, 0, 0), (140, 140, 900), 0.0, under=-1000.0)
    grid = ScanGrid(40, 96)
    r = np.hypot(grid.axis, grid.axis[:, None])
    truth = np.broadcast_to(np.where(r <= 140, 0, -1000).astype(np.float32), (40, 96, 96))
    image = acquire(truth, [water], grid, site, np.random.default_rng(0)).astype(float)
    noise = image - image.mean(axis=0)
    assert noise[:, r < 25].std() == pytest.approx(site.noise_hu, rel=0.06)
    assert noise[:, (r > 110) & (r < 130)].std() < 0.8 * site.noise_hu
    assert image[:, r < 100].mean() == pytest.approx(1000 * (site.gain - 1), abs=1)
    assert image[:, r > 160].mean() == pytest.approx(-1000, abs=1)


def test_noise_is_grainy_as_in_ct_and_coarser_at_the_second_site():
    def neighbours(site, step):
        air = np.full((20, 96, 96), -1000, np.float32)
        body = [Ellipsoid((0, 0, 0), (140, 140, 900), 0.0, under=-1000.0)]
        image = acquire(air, body, ScanGrid(20, 96), site, np.random.default_rng(0)) + 1000.0
        middle = image[:, 36:60, 36:60]
        return (middle * np.roll(image, step, axis=2)[:, 36:60, 36:60]).mean() / middle.var()

    sharp, soft = (neighbours(site, 1) for site in SITES)
    assert 0.05 < sharp < soft - 0.1
    assert min(neighbours(site, 3) for site in SITES) < 0  # the ramp filter takes out the mean


def test_site_b_is_noisier_in_the_set(easy):
    images = load(easy.table)
    air = images[:, :8].std(axis=(1, 2))
    by_site = pd.Series(air).groupby(easy.table.site.to_numpy()).mean()
    assert by_site["B"] > 1.2 * by_site["A"]
    assert easy.table.groupby("site").x_noise_hu.unique().str[0].to_dict() == {"A": 11, "B": 17}


def test_planted_copies_are_equal_and_listed(tmp_path):
    found = make_phantom(output=tmp_path, **SMALL, duplicates=3)
    table = found.table
    assert table.patient.nunique() == 19
    assert len(table) == 16 * 4 + 3
    assert len(found.facts["copies"]) == 3
    for copy, source in found.facts["copies"].items():
        new = table[table.patient == copy]
        old = table[table.patient == source].iloc[:1]
        assert len(new) == 1
        for column in ("path", "mask"):
            np.testing.assert_array_equal(load(new, column), load(old, column))
        assert new.label.item() == new.series_label.item() == old.label.item()
    assert len({image.tobytes() for image in load(table)}) == 16 * 4


def settings(**changes):
    given = {"patients": 600, "slices": 6, "size": 96, "seed": 3, "prevalence": 0.3}
    given |= {"difficulty": 0.5, "duplicates": 0, "shortcut": 0.0, "task": "lesion"}
    return Settings(**(given | changes))


@pytest.mark.parametrize(("shortcut", "ill_at_b", "well_at_b"), [(0, 90, 210), (1, 180, 0)])
def test_prevalence_and_shortcut_are_met_exactly(shortcut, ill_at_b, well_at_b):
    dealt = deal_patients(settings(shortcut=shortcut))
    counts = pd.crosstab([p.positive for p in dealt], [p.site.name for p in dealt])
    assert counts.loc[True].sum() == 180
    assert counts.loc[True, "B"] == ill_at_b
    assert counts.loc[False, "B"] == pytest.approx(well_at_b, abs=1)


@pytest.mark.parametrize("slices", [2, 6, 24])
def test_order_is_told_by_positions_alone(tmp_path, slices):
    found = make_phantom(output=tmp_path, patients=10, slices=slices, size=32, task="order")
    assert found.table.drop_duplicates("patient").label.value_counts().to_dict() == {
        "dense_first": 5,
        "lucent_first": 5,
    }
    np.testing.assert_array_equal(found.table.label, found.table.series_label)
    np.testing.assert_array_equal(found.table.finding != "", found.table.lesion_px > 0)
    assert found.table.x_lesions.max() == 1
    for _, series in found.table.groupby("patient"):
        first = series[series.finding != ""].groupby("finding").position.agg(["min", "max"])
        assert set(first.index) == {"dense", "lucent"}
        dense_first = first["max"]["dense"] < first["min"]["lucent"]
        assert dense_first or first["max"]["lucent"] < first["min"]["dense"]
        assert series.label.iloc[0] == ("dense_first" if dense_first else "lucent_first")


def test_the_bag_of_findings_does_not_tell_the_order():
    asked = settings(task="order", prevalence=0.5)
    truth, bags = [], []
    for patient in deal_patients(asked):
        rng = np.random.default_rng([0, patient.index])
        grid = ScanGrid(asked.slices, asked.size, patient.direction)
        lesions = draw_lesions(rng, draw_body(rng), grid, patient, asked)
        dense, lucent = sorted(lesions, key=lambda lesion: -lesion.contrast_hu)
        assert dense.contrast_hu == -lucent.contrast_hu > 0
        bags.append([*dense.center, *lucent.center, dense.radius_mm, lucent.radius_mm])
        truth.append(patient.positive)
    # 600 patients: the standard error of each AUROC is .024.
    scores = [roc_auc_score(truth, feature) for feature in np.transpose(bags)]
    np.testing.assert_allclose(scores, 0.5, atol=0.09)


def test_all_wrong_settings_are_named_at_once(tmp_path):
    with pytest.raises(MedvisionError) as caught:
        make_phantom(output=tmp_path, patients=4, size=16, difficulty=1.5, duplicates=9, task="bag")
    assert str(caught.value) == (
        "phantom: size=16 must be 32 to 512 pixels; difficulty=1.5 must be 0 (easy) to 1 "
        "(invisible); duplicates=9 must be 0 to the number of patients; task=bag must be lesion, "
        "order or size. Correct the value and run the same command again."
    )
    assert not list(tmp_path.iterdir())


def test_an_order_needs_two_slices(tmp_path):
    with pytest.raises(MedvisionError, match="slices=1 must be 1 to 512"):
        make_phantom(output=tmp_path, patients=4, slices=1, task="order")


def test_facts_are_plain_json(easy):
    import json

    facts = json.loads(json.dumps(easy.facts, allow_nan=False))
    assert facts["positive_patients"] == 8
    assert facts["pixel_mm"] == 5.5
    assert facts["lesion_contrast_hu"] == 140
    assert set(facts["truth"]) <= set(easy.table.columns)


def test_radius_and_volume_are_those_of_the_lesions(tmp_path):
    """Pixels add up to the volume of lesions that lie in the scanned range, and to no more."""
    table = make_phantom(output=tmp_path, patients=16, slices=72, size=64, prevalence=0.8).table
    masks, healthy = load(table, "mask"), table.groupby("patient").lesion_px.sum() == 0
    edge = table.groupby("patient").lesion_px.agg(lambda px: px.iloc[0] + px.iloc[-1]) > 0
    voxel_ml = (352 / 64) ** 2 * 1 / 1000
    counted = table.assign(ml=masks.sum(axis=(1, 2)) * voxel_ml).groupby("patient").ml.sum()
    told = table.groupby("patient").y_volume_ml
    assert (told.nunique() == 1).all()
    assert (edge | healthy).sum() < 15
    np.testing.assert_allclose(told.first()[~edge], counted[~edge], rtol=0.03)
    assert (told.first()[edge] > counted[edge]).all()
    assert (told.first()[healthy] == 0).all()
    cut = table.lesion_px > 0
    assert (table.y_radius_mm[~cut] == "").all()
    alone = table[cut & (table.x_lesions == 1) & (table.lesion_px > 25)]
    measured = np.sqrt(alone.lesion_px * (352 / 64) ** 2 / np.pi)
    np.testing.assert_allclose(alone.y_radius_mm.astype(float), measured, rtol=0.12)
    assert (table.y_radius_mm[cut].astype(float) <= table.x_radius_mm[cut]).all()


def test_sizes_are_grades_of_the_same_pixels(easy, tmp_path):
    graded = make_phantom(output=tmp_path, **SMALL, difficulty=0.0, task="size")
    assert graded.classes == ["none", "small", "large"]
    table = graded.table
    np.testing.assert_array_equal(load(table), load(easy.table))
    expected = np.select([table.x_radius_mm == 0, table.x_radius_mm < 15.5], ["none", "small"],
                         "large")  # fmt: skip
    np.testing.assert_array_equal(table.label, expected)
    largest = table.groupby("patient").x_radius_mm.transform("max")
    np.testing.assert_array_equal(table.series_label == "large", largest >= 15.5)
    np.testing.assert_array_equal(table.series_label == "none", largest == 0)

import pandas as pd
import pytest

from medvision.data.audit.flow import count_joined, count_units, trace_losses


def rows(patients, series=None, **more):
    table = pd.DataFrame({"dataset": "d", "patient": list(patients)})
    table["series"] = list(series or patients)
    return table.assign(**more)


def test_counts_are_of_images_series_and_patients():
    assert count_units(rows("aab", "xyz")) == {"images": 3, "series": 3, "patients": 2}
    bare = rows("ab").drop(columns="series")
    assert count_units(bare) == {"images": 2, "patients": 2}
    twice = pd.concat([rows("a"), rows("a").assign(dataset="e")])
    assert count_units(twice)["patients"] == 2


def test_what_is_lost_and_what_is_kept_add_up():
    whole = rows("aaabbcd", "uuvwwxy")
    readable = whole.drop(index=[0])
    left = readable[readable["patient"] != "d"]
    flow = trace_losses(whole, [("unreadable", readable), ("gap", readable), ("leak", left)])
    assert [one["reason"] for one in flow["excluded"]] == ["unreadable", "leak"]
    assert flow["excluded"][0] == {"reason": "unreadable", "images": 1, "series": 0, "patients": 0}
    assert flow["excluded"][1] == {"reason": "leak", "images": 1, "series": 1, "patients": 1}
    for unit, number in flow["whole"].items():
        assert number - sum(one[unit] for one in flow["excluded"]) == flow["kept"][unit]


def test_nobody_is_counted_twice_among_those_who_join():
    own = rows("ab", origin="real")
    more, made = rows("bc", origin="real"), rows("zz", origin="generated")
    first, second = count_joined(own, [more, made])
    assert first == {"reason": "extra", "images": 2, "series": 1, "patients": 1}
    assert second == {"reason": "generated", "images": 2}


@pytest.fixture
def leaky(tmp_path, medvision):
    """A prepared folder: one broken file, one patient in two given parts, one without a label."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    made = tmp_path / "in"
    for number in range(24):
        part, name = ("train" if number < 16 else "test"), "ab"[number % 2]
        place = made / part / name / f"p{number:02d}_0.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), rng.integers(0, 255, (16, 16), dtype=np.uint8))
    cv2.imwrite(str(made / "train" / "a" / "p16_1.png"), np.eye(16, dtype=np.uint8) * 9)
    (made / "train" / "b" / "p99_0.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    done = medvision("prepare", "source=folder", f"input={made}", f"output={out}",
                     r"columns.patient=(p\d+)", "on_unreadable=exclude")  # fmt: skip
    assert done.status == 0, done.err
    table = pd.read_csv(out / "manifest.csv", dtype=str, keep_default_na=False)
    table.loc[0, "label"] = ""
    table.to_csv(out / "manifest.csv", index=False)
    return out / "manifest.csv"


def test_from_the_folder_to_the_parts_nothing_gets_lost(leaky):
    from medvision.data.batches.assemble import assemble
    from medvision.data.batches.datamodule import ImageDataModule
    from medvision.data.manifest.card import read_card
    from medvision.data.store.reader import Reader
    from medvision.tasks.classes import Classes

    data = ImageDataModule(manifest=str(leaky), reader=Reader(size=(16, 16)), on_leak="drop")
    samples, audit, _ = assemble(data.options, Classes)
    early = read_card(leaky.with_name("card.json")).facts["flow"]
    assert early["whole"] == {"images": 26, "patients": 25}
    (unreadable,) = early["excluded"]
    assert unreadable == {"reason": "unreadable", "images": 1, "patients": 1}
    assert early["kept"] == audit.flow["whole"] == {"images": 25, "patients": 24}
    (leak,) = audit.flow["excluded"]
    assert leak == {"reason": "leak", "images": 1, "patients": 0}
    assert leak["images"] == sum(audit.dropped.values())
    parts = audit.flow["parts"]
    for unit in ("images", "patients"):
        assert sum(part[unit] for part in parts.values()) == audit.flow["kept"][unit]
    assert sum(part["unlabelled"] for part in parts.values()) == 1
    for part, held in parts.items():
        assert sum(held["per_class"].values()) + held["unlabelled"] == held["samples"]
        assert held["images"] == (samples.table["split"] == part).sum()

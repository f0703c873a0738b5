import re

from medvision.evaluation.report.participants import describe_participants
from medvision.evaluation.report.run_files import read_run_files


def numbers(text, unit):
    return int(re.search(rf"(\d+) {unit}", text).group(1))


def test_boxes_add_up_from_what_was_found_to_the_parts(cohort):
    flow = describe_participants(read_run_files(cohort))
    found, manifest = flow.steps
    assert found.counts == "61 patients, 121 images"
    assert found.lines == ["3 other files beside them"]
    assert found.aside == ["left out: 1 image, all of 1 patient, unreadable or broken"]
    assert manifest.counts == "60 patients, 120 images"
    for unit in ("patients", "images"):
        assert numbers(found.counts, unit) - 1 == numbers(manifest.counts, unit)
        assert sum(numbers(part.counts, unit) for part in flow.parts) == numbers(
            manifest.counts, unit
        )
    for part in flow.parts:
        classes = [int(line.split()[1]) for line in part.lines[:2]]
        bare = [1] if part.title == "train" else []
        assert sum(classes + bare) == numbers(part.counts, "images")
    assert "not annotated: 1, which do not train" in flow.parts[0].lines
    assert "scored: 40" in flow.parts[2].lines
    assert flow.sentence.startswith("Of 61 patients, 121 images, 1 image was left out")


def test_a_manifest_that_was_changed_after_prepare_is_not_chained(cohort, change):
    facts = dict(read_run_files(cohort).card["facts"])
    facts["flow"]["kept"]["images"] = 119
    change(cohort / "card.json", facts=facts)
    (manifest,) = describe_participants(read_run_files(cohort)).steps
    assert manifest.title == "Rows of the manifest"
    assert manifest.lines == ["not the rows that prepare wrote"]


def test_reasons_and_rows_that_join_are_told_without_names(cohort, change):
    audit = dict(read_run_files(cohort).audit)
    flow = audit["flow"]
    flow["excluded"] = [{"reason": "gap", "images": 6, "series": 1, "patients": 0}]
    flow["joined"] = [{"reason": "extra", "images": 8, "patients": 4},
                      {"reason": "generated", "images": 50}]  # fmt: skip
    change(cohort / "audit.json", flow=flow)
    change(cohort / "card.json", facts={"excluded": ["'smith.dcm' is damaged"],
                                        "set aside": {"broken files": 1}})  # fmt: skip
    manifest, joined = describe_participants(read_run_files(cohort)).steps
    assert manifest.aside == ["left out: 6 images, all of 1 series, of series with missing slices"]
    assert joined.counts == "64 patients, 128 images"
    assert joined.aside[1] == "joined: 50 images generated"
    assert "smith" not in str(describe_participants(read_run_files(cohort)))


def test_a_run_that_counted_nothing_has_no_flow(cohort, change):
    change(cohort / "audit.json", flow=None)
    assert describe_participants(read_run_files(cohort)) is None
    assert describe_participants(read_run_files(cohort / "nowhere")) is None

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medvision.errors import MedvisionError
from medvision.evaluation.covariates import read_rows
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.predictions import write_predictions
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores, score_table
from medvision.evaluation.report.table import show_interval, show_score
from medvision.evaluation.scoring import prepare_parts, score_parts
from medvision.tasks.classification.curves import draw_roc

VOID = {"meta", "img", "link", "br", "hr", "input"}
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Collects tables by section, texts and tags; refuses tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.tables, self.texts, self.attributes = [], [], {}, [], []
        self.section = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag == "tr":
            self.tables.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.tables[self.section][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[self.section][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def make_predictions(kind, classes, n=60, seed=0):
    rng = np.random.default_rng(seed)
    K = len(classes)
    if kind == "multilabel":
        on = rng.integers(0, 2, (n, K))
        probs = np.clip(0.3 * on + 0.7 * rng.random((n, K)), 0, 1)
        label = ["|".join(np.array(classes)[row == 1]) or "-" for row in on]
    else:
        truth = np.arange(n) % K
        logits = rng.normal(size=(n, K)) + 1.5 * np.eye(K)[truth]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        label = [classes[k] for k in truth]
    table = pd.DataFrame({"index": range(n), "dataset": "d", "path": "x.png", "frame": 0})
    table["patient"], table["label"] = [f"p{k // 2}" for k in range(n)], label
    return table.assign(**{f"prob_{name}": probs[:, k] for k, name in enumerate(classes)})


def make_run(folder, kind="binary", classes=("normal", "pneumonia"), parts=("val", "test")):
    run = folder / "cnn_phantom" / "seed=0-0a1b2c3d"
    threshold = {"binary": 0.4, "multiclass": None, "multilabel": [0.5] * len(classes)}[kind]
    held = {part: make_predictions(kind, list(classes), seed=n) for n, part in enumerate(parts)}
    for part, table in held.items():
        write_predictions(run / "predictions" / f"{part}.csv", table)
    decision = {"temperature": 1.3, "rule": "youden", "threshold": threshold}
    target = {"classes": classes, "kind": kind}
    evaluator = open_evaluator("classification", target, decision)
    scored = prepare_parts({part: {"": table} for part, table in held.items()}, evaluator)
    metrics = score_parts(scored, evaluator, read_rows(run / "manifest.csv"), resamples=20)
    (run / "metrics.json").write_text(json.dumps(metrics))
    history = pd.DataFrame({"epoch": [0, 1], "val/auroc": [0.7, 0.9], "val/loss": [0.6, 0.5]})
    history.to_csv(run / "history.csv", index=False)
    (run / "config.yaml").write_text("monitor: val/auroc\nlr: ${model.lr}\nmodel: {lr: 0.1}\n")
    note(run, command="medvision train data.fold=1", status="done", seed=7, seconds=203.4,
         test_openings=[{"date": "2026-01-02", "model": "abcd", "command": "medvision train"}],
         patient_rule="column patient", images_seen=["00" * 32] * 100)  # fmt: skip
    counts = {"train": {"images": 160, "patients": 80, "unlabelled": 0, "per_class": {}}}
    audit = {"mode": "given", "counts": counts | metrics["n"]}
    audit |= {"overlaps": {"patients": 0, "images": 8}, "dropped": {"copies_rows": 8}}
    audit |= {"remaining": {"patients": 0, "images": 0}, "notes": ["check the labels"]}
    (run / "audit.json").write_text(json.dumps(audit))
    return run


def note(folder, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "record.json"
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | facts))


def read_page(run, *remarks):
    return Page(write_report(run, remarks).read_text(encoding="utf-8"))


def read_scores(run):
    return json.loads((run / "metrics.json").read_text())


KINDS = {
    "binary": ("normal", "pneumonia"),
    "multiclass": ("a", "b", "c"),
    "multilabel": ("mass", "nodule", "effusion"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_report_holds_every_number_of_the_metrics(tmp_path, kind):
    run = make_run(tmp_path, kind, KINDS[kind])
    page, metrics = read_page(run), read_scores(run)
    rows = page.tables["scores"]
    plain = {"binary": "test, argmax", "multilabel": "test, at .5"}
    parts = {"test": "test", plain.get(kind, ""): "test_argmax", "val": "val"}
    parts.pop("", None)  # multi-class decides by argmax in the first place
    assert rows[0] == ["", *parts]
    for column, part in enumerate(parts.values(), start=1):
        scores = [s for s in metrics[part].values() if isinstance(s, dict)]
        cells = [row[column] for row in rows[1:-2] if row[column]]
        assert sorted(cells) == sorted(show_interval(score) for score in scores)
        n = metrics["n"][part.removesuffix("_argmax")]
        assert [row[column] for row in rows[-2:]] == [str(n["images"]), str(n["patients"])]
    for row in page.tables["classes"][1:]:
        scores = metrics["per_class"]["test"][row[0]]
        shown = [show_interval(s) if isinstance(s, dict) else str(s) for s in scores.values()]
        assert row[1:] == shown
    counts = metrics["confusion"]["test"]
    counts = list(counts.values()) if kind == "multilabel" else counts
    drawn = [[int(cell) for cell in row[1:]] for row in page.tables["confusion"][1:]]
    assert drawn == np.array(counts).reshape(len(counts), -1).tolist()


def test_verdict_says_n_score_and_interval_in_one_sentence(tmp_path):
    run = make_run(tmp_path)
    auroc = read_scores(run)["test"]["auroc"]
    low, high = show_score(auroc["low"]), show_score(auroc["high"])
    sentence = (
        f"On 60 test images of 30 patients: AUROC {show_score(auroc['value'])} "
        f"(95 % CI {low}\N{EN DASH}{high}), balanced accuracy "
    )
    assert sentence in read_page(run).text


def test_report_tells_data_choices_openings_and_how_to_repeat(tmp_path):
    page = read_page(make_run(tmp_path), "Scores differ when recomputed.")
    for sentence in (
        "Scores differ when recomputed.",
        "Patients: column patient",
        "Found in more than one part as given: 0 patients and 8 images.",
        "Rows left out: 8 as copies of an image.",
        "In more than one part after that, checked again: 0 patients and 0 images.",
        "check the labels",
        "Trained for 2 epochs; epoch 1 was best by val/auroc (.900).",
        "Operating point: probability .400; chosen on val by youden, then frozen.",
        "Temperature: 1.300, fitted on val",
        "The test part was opened once.",
        "medvision train data.fold=1",
        "3 min 23 s",
        "lr: ${model.lr}",
        "Research software, not a medical device.",
    ):
        assert sentence in page.text
    assert page.tables["data"][1] == ["images", "160", "60", "60"]
    assert "00" * 32 not in page.text
    assert "100 entries" in page.text


def test_a_second_opening_of_test_is_not_hidden(tmp_path):
    run = make_run(tmp_path)
    note(run, test_openings=[{"date": "1", "model": "m", "command": "c"}] * 3)
    page = read_page(run)
    assert "The test part was opened 3 times; only the first look" in page.text
    assert page.tables["choices"][1:] == [["1", "m", "c"]] * 3


def test_nothing_a_user_wrote_becomes_markup(tmp_path):
    run = make_run(tmp_path / EVIL.replace("/", "_"), classes=("normal", EVIL))
    note(run, command=EVIL, device=EVIL, patient_rule=EVIL)
    (run / "config.yaml").write_text(f'name: "{EVIL}</code>"\n')
    page = read_page(run, EVIL)
    assert "script" not in page.tags
    assert page.text.count(EVIL) >= 8
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_report_is_one_file_that_asks_nothing_of_the_network(tmp_path):
    run = make_run(tmp_path)
    probs, label = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])
    drawn = draw_roc(probs, label, ["no", "yes"], "binary")
    for name in ("zebra.png", "test_roc.png", "learning_curves.png"):
        save_figure(drawn, run / "figures" / name)
    page = read_page(run)
    places = [value for name, value in page.attributes if name in ("src", "href")]
    drawn = [place for place in places if not place.startswith("#")]
    assert len(drawn) == 3
    assert all(place.startswith("data:image/png;base64,iVBOR") for place in drawn)
    ids = {value for name, value in page.attributes if name == "id"}
    assert {place[1:] for place in places if place.startswith("#")} == ids
    alts = [value for name, value in page.attributes if name == "alt"]
    assert alts == ["ROC curve (test)", "Learning curves", "zebra"]
    text = (run / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    assert {"html", "head", "title", "main", "header", "footer", "h1"} <= set(page.tags)
    assert ("name", "viewport") in page.attributes


def test_undefined_scores_are_a_dash_and_explained(tmp_path):
    run = make_run(tmp_path)
    metrics = read_scores(run)
    nothing = {"value": None, "low": None, "high": None}
    metrics["test"] = dict.fromkeys(metrics["test"], nothing)
    metrics["val"]["mcc"] = {"value": 0.5, "low": None, "high": None}
    metrics |= {"temperature": None, "operating_point": {"rule": "youden", "threshold": None}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = read_page(run)
    cells = {row[0]: row[1:] for row in page.tables["scores"]}
    assert cells["AUROC"][0] == "\N{EN DASH}"
    assert cells["MCC"][2] == ".500 (\N{EN DASH})"
    assert "leave undefined" in page.text
    assert "None" not in page.text
    assert "null" not in page.text
    assert "This run has no scores yet." in page.text


def test_means_say_over_how_many_classes(tmp_path):
    run = make_run(tmp_path, "multiclass", KINDS["multiclass"])
    metrics = read_scores(run)
    assert "Means over the 3 classes where a score is defined: test and val." in (
        score_table(metrics).notes
    )
    metrics["test"]["auroc"]["classes"] = 2
    notes = score_table(metrics).notes
    assert "Means over the 3 classes where a score is defined (AUROC 2): test." in notes
    assert "Means over the 3 classes where a score is defined: val." in notes


def test_without_a_test_part_the_report_says_so(tmp_path):
    run = make_run(tmp_path, parts=("val",))
    note(run, test_openings=[])
    page = read_page(run)
    assert page.tables["scores"][0] == ["", "val"]
    assert "On 60 val images of 30 patients" in page.text
    assert "No test part was scored" in page.text
    assert "The test part was never opened." in page.text
    assert "Each class against the rest (val)" in page.text


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"status": "failed", "reason": "the disk is full."}, "This run failed: the disk is full."),
        ({"status": "failed"}, "This run failed."),
        ({"status": "running"}, "This run has not finished"),
        ({"status": "interrupted"}, "This run was interrupted; the same command resumes it."),
        ({}, "This run has no scores yet."),
    ],
)
def test_an_unfinished_run_has_a_report_too(tmp_path, facts, sentence):
    note(tmp_path / "run", **facts)
    page = read_page(tmp_path / "run")
    assert sentence in page.text
    assert "scores" not in page.tables


def test_an_empty_folder_and_empty_files_have_a_report(tmp_path):
    (tmp_path / "history.csv").touch()
    (tmp_path / "config.yaml").touch()
    assert "This run has no scores yet." in read_page(tmp_path).text


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(MedvisionError, match=r"metrics\.json is not valid JSON"):
        write_report(tmp_path)


def test_the_same_run_gives_the_same_page(tmp_path):
    run = make_run(tmp_path)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


@pytest.mark.parametrize("kind", KINDS)
def test_printed_table_is_plain_when_piped_and_fits_80_columns(tmp_path, kind):
    metrics = read_scores(make_run(tmp_path, kind, KINDS[kind]))
    worst = {"value": -0.1, "low": -0.3, "high": -0.05}
    metrics["test"]["mcc"] = metrics["val"]["mcc"] = worst
    page = io.StringIO()
    print_scores(metrics, Console(file=page, width=80))
    lines = page.getvalue().splitlines()
    assert "\x1b" not in page.getvalue()
    assert max(map(len, lines)) <= 80
    assert "…" not in page.getvalue()
    named = {re.split(r"\s{2,}| (?=[.\d-])", one)[0]: one for one in lines}
    auroc = show_interval(metrics["test"]["auroc"])
    assert auroc in named["AUROC"]
    assert named["MCC"].count("-.100 (-.300, -.050)") == 2
    assert named["n images"].split()[2:] == ["60"] * (2 if kind == "multiclass" else 3)
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    print_scores(metrics, console)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    assert max(map(len, shown.splitlines())) <= 80
    assert auroc in shown


def test_predictions_name_the_classes_of_the_confusion(tmp_path):
    run = make_run(tmp_path, classes=("sane", "sick"))
    assert "prob_sick" in pd.read_csv(run / "predictions" / "test.csv")
    assert read_page(run).tables["confusion"][0] == ["", "decided sane", "decided sick"]


def test_a_whole_run_has_all_sections_in_order_and_red_where_an_author_must_write(cohort):
    page = read_page(cohort)
    ids = [value for name, value in page.attributes if name == "id"]
    assert ids == ["scores", "classes", "confusion", "predictive", "subgroups", "flow", "cohort",
                   "data", "choices", "card", "checklists", "repeat"]  # fmt: skip
    assert "Of 61 patients, 121 images, 1 image was left out" in page.text
    assert page.tables["subgroups"][0][:4] == ["", "patients", "images", "n sick"]
    assert ["A", "10", "20"] in [row[:3] for row in page.tables["subgroups"]]
    assert "AUTHOR MUST FILL : funding and its role" in page.text
    assert ("class", "fill") in page.attributes
    assert page.tables["checklists"][1][0] == "1"
    assert "p0000000000" not in page.text  # nobody's pseudonym
    assert "data" not in page.tables  # its counts are table 1


def test_the_head_says_when_of_whom_and_by_what(cohort):
    note(cohort, finished="2026-01-02T03:04:05Z", model="0123456789abcdef")
    page = write_report(cohort).read_text(encoding="utf-8")
    head = page[page.index("<header>") : page.index("</header>")]
    for fact in ("2026-01-02", "clinic (60 patients)", "ConvNet (model.pt 01234567)"):
        assert f"<dd>{fact}</dd>" in head


def test_a_page_names_the_models_that_it_judges(cohort):
    note(cohort, run="cnn/seed=1-abc", model="0123456789abcdef")
    assert "run cnn/seed=1-abc (model.pt 01234567)" in read_page(cohort).text
    note(cohort, members=[{"run": "a/b", "model": "0"}])
    assert "run a/b (model.pt" in read_page(cohort).text
    note(cohort, members=[{"run": "a/b", "model": "0"}, {"run": "a/c", "model": "1"}])
    assert "2 models together: a/b, a/c" in read_page(cohort).text


def test_lists_for_an_author_are_folded(cohort):
    page = write_report(cohort).read_text(encoding="utf-8")
    lists = page[page.index('<section id="checklists">') : page.index('<section id="repeat">')]
    assert lists.count("<details>") == lists.count("<table") == 2
    assert re.search(r"<summary>CLAIM.*: Of \d+ items the run answers", lists)


def test_predictive_values_are_told_here_and_where_one_says(cohort):
    page = read_page(cohort)
    title, here = (row[0] for row in page.tables["predictive"])
    assert title == "prevalence of sick"
    share = read_scores(cohort)["n"]["test"]["per_class"]["sick"] / 40
    assert here == f"{show_score(share)}, as in test"
    assert "report.prevalence=0.02" in page.text
    config = cohort / "config.yaml"
    config.write_text(config.read_text() + "report: {prevalence: 0.02}\n")
    stated = read_page(cohort).tables["predictive"]
    assert stated[2][0] == ".020, as stated"
    assert Page(write_report(cohort, prevalence=0.5).read_text()).tables["predictive"][2][0] == (
        ".500, as stated"
    )
    assert float(stated[2][1][:4]) < float(stated[1][1][:4])  # rarer: fewer of those found have it


def test_many_columns_have_intervals_below_their_values(tmp_path):
    page = write_report(make_run(tmp_path, "multiclass", KINDS["multiclass"])).read_text()
    classes = page[page.index('<section id="classes">') : page.index('<section id="confusion">')]
    assert '<table class="many">' in classes
    assert re.search(
        r'<td>\.\d{3} <span class="interval">\(\.\d{3}–1?\.\d{3}\)</span></td>', classes
    )


def test_nothing_of_a_manifest_becomes_markup(cohort):
    table = pd.read_csv(cohort / "manifest.csv", dtype=str, keep_default_na=False)
    table["site"] = np.where(table["site"] == "A", EVIL, "B")
    table = table.rename(columns={"x_sex": f"x_{EVIL}"})
    table.to_csv(cohort / "manifest.csv", index=False)
    page = read_page(cohort)
    assert "script" not in page.tags
    assert EVIL in page.text


def test_patients_are_not_spoken_of_where_each_image_counts_as_one(tmp_path):
    metrics = read_scores(make_run(tmp_path, "binary", KINDS["binary"]))
    assert "In brackets: 95 % intervals over patients." in score_table(metrics).notes
    for counts in metrics["n"].values():
        counts["patients"] = counts["images"]
    notes = score_table(metrics).notes
    assert "In brackets: 95 % intervals; each image counts as a patient." in notes

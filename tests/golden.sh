#!/usr/bin/env bash
# Runs two commits through the same commands and compares by bits what comes out.
#
#   tests/golden.sh BEFORE AFTER [PARTS] [--strict-text]
#
# BEFORE, AFTER   a commit each, or a folder that holds a checkout (taken as it is, uncommitted edits too)
# PARTS           some of "demo rnn gan predict evaluate compare report" (also by the environment); what a
#                 part needs is run with it. All: some four minutes of a core a side, both sides at once
# --strict-text   reports, figures and terminal output count as well
#
# PYTHON=python   the interpreter       FOLDER=DIR   work there and keep it (default: a temporary folder)
# IGNORE='*/audit.json:shortcut* */metrics.json:task'   file:key patterns that are meant to differ: counted, no failure
#
# Exit status: 0 no difference, 1 differences or a failed command, 2 wrong words.
set -euo pipefail

positional=() strict=0
for word in "$@"; do
    if [ "$word" = --strict-text ]; then strict=1; else positional+=("$word"); fi
done
if [ "${#positional[@]}" -lt 2 ]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; fi
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
asked=${positional[*]:2}
asked=${asked:-${PARTS:-demo rnn gan predict evaluate compare report}}
python=$(command -v "${PYTHON:-python}") || { echo "PYTHON=${PYTHON:-python} is no interpreter"; exit 2; }

parts=""
for part in $asked; do
    case $part in
        predict | evaluate) parts+=" demo rnn $part" ;;
        compare | report) parts+=" demo $part" ;;
        demo | rnn | gan) parts+=" $part" ;;
        *) echo "no part is called $part"; exit 2 ;;
    esac
done
has() { [[ " $parts " == *" $1 "* ]]; }

work=${FOLDER:-$(mktemp -d)}
mkdir -p "$work" && work=$(cd "$work" && pwd)
trees=() jobs=()
finish() {
    for job in "${jobs[@]}"; do kill -- "-$job" 2>/dev/null || true; done
    wait
    for tree in "${trees[@]}"; do git -C "$root" worktree remove --force "$tree"; done
    [ -n "${FOLDER:-}" ] || rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

open_tree() {  # SIDE COMMIT|FOLDER → $tree
    if [ -d "$2/src/medvision" ]; then tree=$(cd "$2" && pwd); return; fi
    tree=$work/tree-$1
    git -C "$root" worktree add --quiet --force --detach "$tree" "$2" || exit 2
    trees+=("$tree")
}

# ---------------------------------------------------------------- what is run

medvision() {  # LOG WORDS…
    local log=logs/$1.txt
    shift
    if ! "$python" -m medvision "$@" >"$log" 2>&1 </dev/null; then
        echo "$side: failed: medvision $*"
        tail -n 15 "$log" | sed 's/^/    /'
        return 1
    fi
}

fit="threads=1 trainer.precision=32-true trainer.enable_progress_bar=false data.workers=1"
held="data.shares.train=0.6 data.shares.val=0.25 data.shares.test=0.15"
images="data.source.patients=60 data.source.slices=4 $held"
crowd="data.source.patients=120 data.source.slices=3 data.source.size=32 $held"
small="data.batch_size=16 data.epoch_size=64 model.kimg=0.128 model.penalty_every=2 model.generator.width=8 model.critic.width=8"

do_demo() {
    medvision demo train -m name=demo seed=0,1 trainer.max_epochs=2 $images $fit
    medvision slow train -m name=slow seed=0,1 trainer.max_epochs=2 $images $fit model.optimizer.lr=0.0005
    medvision other prepare source=phantom patients=30 slices=4 seed=7 dataset=other output=other
}

do_rnn() {
    medvision rnn train experiment=rnn_phantom name=rnn trainer.max_epochs=2 data.source.patients=60 $held $fit
    medvision order prepare source=phantom task=order slices=12 size=64 difficulty=0.2 patients=30 seed=7 dataset=order output=order
}

do_gan() {
    medvision plain train experiment=cnn_phantom_easy name=plain trainer.max_epochs=2 $crowd $fit
    medvision gan train experiment=dcgan_phantom judge.run=plain name=gan $crowd $small $fit
    medvision generate generate run=gan per_class=8 output=generated allow_ungated=true
    medvision augmented train experiment=cnn_phantom_easy name=augmented trainer.max_epochs=1 \
        'data.extra=[generated/manifest.csv]' data.extra_ratio=0.25 $crowd $fit
}

do_predict() {
    local first
    first=$(echo runs/demo/*seed=0*)
    "$python" - <<'PY'
import csv, random, struct, zlib
from pathlib import Path

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

draw = random.Random(0)
lines = b"".join(b"\0" + bytes(draw.randrange(256) for _ in range(96)) for _ in range(96))
Path("new.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 96, 8, 0, 0, 0, 0))
                            + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
rows = list(csv.DictReader(open("order/manifest.csv")))
two = sorted({row["series"] for row in rows})[:2]
with open("series.csv", "w", newline="") as stream:
    table = csv.DictWriter(stream, ["path", "series", "position", "frame"], extrasaction="ignore")
    table.writeheader()
    table.writerows(row | {"path": f"order/{row['path']}"} for row in rows if row["series"] in two)
PY
    medvision predict_array predict run="$first" input=other/images/p0000.npy output=predicted/array.csv
    medvision predict_image predict run="$first" input=new.png on_foreign=warn output=predicted/image.csv
    medvision predict_ensemble predict 'runs=[demo]' input=other/images output=predicted/ensemble.csv
    medvision predict_series predict run=rnn input=series.csv output=predicted/series.csv
}

do_evaluate() {
    medvision evaluate evaluate run="$(echo runs/demo/*seed=0*)" data.manifest=other/manifest.csv output=evaluated/images
    medvision evaluate_series evaluate run=rnn data.manifest=order/manifest.csv output=evaluated/series
}

do_compare() {
    medvision compare compare 'runs=[demo,slow]' output=compared/seeds
    medvision compare_single compare 'runs=["demo/*seed=0*","slow/*seed=0*"]' output=compared/single
}

do_report() {
    medvision report_run report run="$(echo runs/demo/*seed=0*)"
    medvision report_sweep report run=demo
    if has gan; then medvision report_gan report run=gan; fi
}

run_side() {  # SIDE TREE, in the folder $work/here
    side=$1
    local part TIMEFORMAT
    cd "$work/here" && mkdir logs
    unset MEDVISION_DATA MEDVISION_COMMAND MEDVISION_LAUNCH
    export PYTHONPATH=$2/src PYTHONDONTWRITEBYTECODE=1 MEDVISION_RUNS=$PWD/runs MEDVISION_CACHE=$PWD/cache MEDVISION_KEY=$PWD/key
    export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES="" COLUMNS=120
    (umask 077 && printf 'golden-golden-golden-golden-0123' >key)  # one key: patients are named alike
    for part in demo rnn gan predict evaluate compare report; do
        if has "$part"; then
            TIMEFORMAT="$side: $part %0U s of a core, %0R s in all"
            time "do_$part"  # a failure ends this side: set -e holds here
        fi
    done
}

open_tree before "${positional[0]}" && before=$tree
open_tree after "${positional[1]}" && after=$tree
rm -rf "${work:?}/before" "$work/after" "$work/here"
mkdir "$work/before" "$work/after" "$work/here"
# Both sides see their folder at one path: stand-ins of paths are made from it, and compare sorts by them.
in_place() {  # SIDE TREE
    unshare --map-root-user --mount bash -euo pipefail -c "$(declare -f); $(declare -p work python parts fit held images crowd small)
        mount --bind \"\$work/\$1\" \"\$work/here\"
        run_side \"\$@\"" bash "$@"
}
in_turn() {  # SIDE TREE: where no folder can be shown at another path
    (run_side "$@")
    rmdir "$work/$1" && mv "$work/here" "$work/$1" && mkdir "$work/here"
}
failed=0
set -m  # a process group a side, so that all of it can be ended
if unshare --map-root-user --mount mount --bind "$work/before" "$work/here" 2>/dev/null; then
    in_place before "$before" & jobs+=($!)
    in_place after "$after" & jobs+=($!)
    wait -n && wait -n || failed=1  # where one side fails, the other is ended
else
    echo "one side after the other: this machine binds no folders"
    in_turn before "$before" & jobs=($!)
    if wait "${jobs[0]}"; then
        in_turn after "$after" & jobs=($!)
        wait "${jobs[0]}" || failed=1
    else
        failed=1
    fi
fi
if [ "$failed" = 1 ]; then echo "nothing compared: a command failed"; exit 1; fi
jobs=()

# ---------------------------------------------------------------- what is compared

OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES="" STRICT=$strict "$python" - "$work/before" "$work/after" $parts <<'PY'
"""Compare two folders of runs: numbers and weights by bits, texts and figures aside."""

import csv
import difflib
import hashlib
import json
import os
import re
import sys
from collections import Counter
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import cv2
import torch
import yaml

SHOWN = 6  # differing values or keys of a file that are printed
EVIDENCE = ("metrics.json", "comparison.json", "audit.json")
# Of no meaning here: times, commands, places, and what is compared elsewhere.
LEFT_OUT = ("record.json", "config.yaml", "tensorboard/*", "*.lock", "hparams.yaml")
RUN = ("metrics.json", "history.csv", "manifest.csv", "audit.json", "model.pt", "report.html",
       "checkpoints/best.ckpt", "checkpoints/last.ckpt")
SCORED = (*RUN, "predictions/val.csv", "predictions/test.csv")
EXPECTED = {
    "demo": [f"runs/{name}/seed={seed}/{file}" for name in ("demo", "slow") for seed in (0, 1) for file in SCORED]
    + ["other/manifest.csv"],
    "rnn": [f"runs/rnn/seed=0/{file}" for file in (*SCORED, "predictions/test_slices.csv")] + ["order/manifest.csv"],
    "gan": [f"runs/{name}/seed=0/{file}" for name in ("plain", "augmented") for file in SCORED]
    + [f"runs/gan/seed=0/{file}" for file in RUN]
    + ["generated/manifest.csv", "generated/images/*.png"],
    "predict": [f"predicted/{name}.csv" for name in ("array", "image", "ensemble", "series", "series_slices")],
    "evaluate": [f"evaluated/{name}/{file}" for name in ("images", "series") for file in ("metrics.json", "predictions/*.csv")],
    "compare": [f"compared/{name}/comparison.json" for name in ("seeds", "single")],
    "report": ["runs/demo/report.html", "logs/report_run.txt"],
}
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?)?")
DIGEST = re.compile(r"(?<=-)[0-9a-f]{8}(?!\w|\.\d)|(?<!\w)(?<!\d\.)(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{7,64}(?!\w|\.\d)")
FLEETING = re.compile(
    r"(\d+(\.\d+)?\s*(seconds|minutes|ms|s|min|h|MB|GB)\b\s*)+"  # durations, memory
    r"|\b\d+\.\d+\.\d+[\w.+]*"  # versions
    r"|,? commit DIGEST(, changed \w+)?"
)


class Side:
    """The files of one side by names that both sides share."""

    def __init__(self, root):
        self.root, self.keys, self.files = Path(root), {}, {}
        for config in sorted(self.root.glob("runs/*/*/config.yaml")):
            seed = yaml.safe_load(config.read_text())["seed"]
            self.keys[config.parent.name] = f"seed={seed}"
        for path in sorted(p for p in self.root.rglob("*") if p.is_file()):
            place = path.relative_to(self.root)
            if place.parts[0] not in ("runs", "generated", "predicted", "evaluated", "compared", "logs", "other", "order"):
                continue
            if place.parts[1] in ("images", "masks") and place.parts[0] in ("other", "order"):
                continue
            name = "/".join(self.keys.get(part, part) for part in place.parts)
            if any(part.startswith(".") for part in place.parts) or any(
                fnmatch(name, f"*/{pattern}") for pattern in LEFT_OUT
            ):
                continue
            if name in self.files:
                sys.exit(f"{self.root}: two runs answer to {name}")
            self.files[name] = path

    def masker(self):
        """Return what takes names, places, dates and digests out of a text; one for each file."""
        stands_for = {}

        def mask(text):
            if is_number(text):
                return text
            text = text.replace(str(self.root.parent / "here"), "SIDE")
            for key, name in self.keys.items():
                text = text.replace(key, name)
            text = re.sub(r"hashed-[0-9a-f]{16}", lambda m: stands_for.setdefault(m[0], f"HASHED {len(stands_for)}"), text)
            return DIGEST.sub("DIGEST", DATE.sub("DATE", text))

        return mask


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def leaves(value, mask, place=""):
    """Yield (key, value) of JSON in text, so that 1 and 1.0 differ."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, mask, f"{place}.{mask(key)}" if place else mask(key))
    elif isinstance(value, list) and value:
        for n, inner in enumerate(value):
            yield from leaves(inner, mask, f"{place}[{n}]")
    else:
        yield place, mask(value) if isinstance(value, str) else json.dumps(value)


def read_json(path, mask):
    return {key: [value] for key, value in leaves(json.loads(path.read_text()), mask)}


def read_csv(path, mask):
    with path.open(newline="") as stream:
        head, *rows = csv.reader(stream)
    # Without the columns of a history that tell the time.
    kept = [n for n, name in enumerate(head) if not re.search("second|wall|memory", name)]
    return {"(columns)": [head[n] for n in kept]} | {head[n]: [mask(row[n]) for row in rows] for n in kept}


def tensors(value, place=""):
    if torch.is_tensor(value):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)):
        for n, inner in enumerate(value):
            yield from tensors(inner, f"{place}[{n}]")


def read_tensors(path, mask):
    """Return the tensors of a model, a checkpoint (weights and optimisers) or any other file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        content = torch.load(path, map_location="cpu", weights_only=False)
    if "weights" in content:
        content = {"weights": content["weights"]}
    elif "state_dict" in content:
        content = {"weights": content["state_dict"], "optimiser": content.get("optimizer_states")}
    found = dict(tensors(content))
    if not found:
        sys.exit(f"{path} holds no tensors")
    return found


def read_pixels(path, mask):
    return {"(pixels)": torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))}


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.lines, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("style", "script")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script")

    def handle_data(self, data):
        if not self.hidden and data.strip():
            self.lines.append(" ".join(data.split()))


def read_text(path, mask):
    text = path.read_text()
    if path.suffix == ".html":
        parser = Text()
        parser.feed(text)
        text = "\n".join(parser.lines)
    return {"(text)": [FLEETING.sub("…", mask(line)).rstrip() for line in text.splitlines()]}


def shown(value):
    return repr(value.item()) if torch.is_tensor(value) else str(value)[:120]


def tell(where, pairs, n):
    pairs = [f"{shown(a)} → {shown(b)}" for a, b in pairs]
    return f"{where}: {n} differ: " + "; ".join(pairs) if n > 1 else f"{where}: {pairs[0]}"


def compare_values(key, a, b):
    """Return one line that says how two lists or tensors differ, or none."""
    if torch.is_tensor(a):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{key}: {tuple(a.shape)} {a.dtype} → {tuple(b.shape)} {b.dtype}"
        a, b = a.detach().contiguous().reshape(-1), b.detach().contiguous().reshape(-1)
        bits = (a.view(torch.uint8) != b.view(torch.uint8)).reshape(len(a), -1).any(1)
        where = bits.nonzero().reshape(-1).tolist()
        return tell(key, [(a[n], b[n]) for n in where[:3]], len(where)) if where else None
    if key == "(text)":
        lines = [line for line in difflib.unified_diff(a, b, n=0, lineterm="") if line[:3] not in ("---", "+++") and line[0] != "@"]
        return "\n      ".join([f"{len(lines)} lines", *lines[:24]]) if lines else None
    if len(a) != len(b):
        return f"{key}: {len(a)} → {len(b)} rows" if key != "(columns)" else f"{key}: {','.join(a)} → {','.join(b)}"
    where = [n for n, pair in enumerate(zip(a, b)) if pair[0] != pair[1]]
    return tell(key, [(a[n], b[n]) for n in where[:3]], len(where)) if where else None


def same_but_renamed(a, b):
    """Tell whether two state dicts hold the same tensors under other names."""
    def bits(named):
        return Counter(
            hashlib.sha256(f"{t.dtype}{tuple(t.shape)}".encode() + t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).digest()
            for t in named.values()
        )

    return bits(a) == bits(b)


def compare_files(a, b, notes):
    """Yield (key, line) of what differs between two files as they were read."""
    lonely = sorted(a.keys() ^ b.keys())
    if lonely and torch.is_tensor(next(iter(a.values()))) and same_but_renamed(a, b):
        notes.append(f"{len(lonely)} names of tensors differ, their bits do not: {', '.join(lonely[:4])} …")
        return
    for key in lonely:
        yield key, f"{key}: only {'before' if key in a else 'after'}"
    for key in [key for key in a if key in b]:
        if line := compare_values(key, a[key], b[key]):
            yield key, line


def reader_of(name):
    """Return how a file is read, and whether it must not differ."""
    suffix = Path(name).suffix
    if suffix == ".csv":
        return read_csv, True
    if suffix in (".pt", ".ckpt"):
        return read_tensors, True
    if suffix == ".png":
        return read_pixels, "/figures/" not in name and "/images/" in name or "/samples/" in name
    if suffix == ".json":
        return read_json, Path(name).name in EVIDENCE
    return read_text, False


def main(before, after, *parts):
    sides = Side(before), Side(after)
    ignored = os.environ.get("IGNORE", "").split()
    strict = os.environ["STRICT"] == "1"
    hard, soft, drawn, skipped, counts = [], [], [], 0, Counter()
    for side in sides:
        for pattern in (p for part in dict.fromkeys(parts) for p in EXPECTED[part]):
            if not any(fnmatch(name, pattern) for name in side.files):
                hard.append(f"{pattern}: missing in {side.root.name}")
    for name in sorted(sides[0].files.keys() | sides[1].files.keys()):
        reader, must = reader_of(name)
        found = hard if must or strict else soft
        if missing := [side.root.name for side in sides if name not in side.files]:
            found.append(f"{name}: missing in {missing[0]}")
            continue
        a, b = (reader(side.files[name], side.masker()) for side in sides)
        notes = []
        lines = []
        for key, line in compare_files(a, b, notes):
            if any(fnmatch(f"{name}:{key}", pattern) for pattern in ignored):
                skipped += 1
            else:
                lines.append(line)
        if lines and reader is read_pixels and found is soft:
            drawn.append(name)
        elif lines:
            more = [f"and {len(lines) - SHOWN} more keys"] if len(lines) > SHOWN else []
            found.append("\n    ".join([name, *lines[:SHOWN], *more]))
        soft += [f"{name}: {note}" for note in notes]
        kind = "compared" if must else "text"
        counts[kind] += 1
        counts[f"{kind} values"] += sum(v.numel() if torch.is_tensor(v) else len(v) for v in a.values())
    if not counts["compared"] or not counts["compared values"]:
        hard.append("nothing was compared")
    hard = list(dict.fromkeys(hard))
    if drawn:
        soft.append("\n    ".join([f"{len(drawn)} figures differ", *drawn]))
    if soft:
        print("\ntexts and figures that differ (no failure):" if not strict else "\nnotes:", *soft, sep="\n  ")
    if hard:
        print(f"\nDIFFERENT in {len(hard)} files:", *hard, sep="\n  ")
    print(
        f"\n{'different' if hard else 'equal'}: {counts['compared']} files with {counts['compared values']} values compared"
        f" by bits, {len(hard)} differ; {counts['text']} texts and figures, {len(soft)} remarks; {skipped} keys ignored"
    )
    return 1 if hard else 0


sys.exit(main(*sys.argv[1:]))
PY

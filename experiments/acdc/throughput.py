"""Series per second of a training step: three ways to run one SliceRNN, interleaved.

    python experiments/acdc/throughput.py [threads]

Writes the table between the markers of this study's README. `loop` is what one would write first:
float32, NCHW, the encoder called once a time step on the whole padded batch, Adam. `flattened` is
what `medvision train` does: only valid slices, all at once, channels-last, fused AdamW, bf16 where
the machine has it, freed memory kept. `cached` is a resting encoder whose features are kept. Every
way starts from the same weights and gives the same answer (checked first, in float32).
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from medvision.files import today
from medvision.losses import cross_entropy
from medvision.nets.convnet import ConvNet
from medvision.nets.slice_rnn import SliceRNN
from medvision.provenance import describe_process
from medvision.training.machine import choose_precision, set_allocator

HERE = Path(__file__).parent
ENCODER = partial(ConvNet, widths=(16, 32, 64, 128), stem_stride=2, dropout=0.0)
SHAPES = {  # the lengths of a batch: equal ones, and what ACDC's batches look like
    "8 series of 32 slices": [32] * 8,
    "8 series of 6 to 18 slices": [6, 8, 9, 9, 10, 10, 12, 18],
}
ROUNDS, SIZE, CHANNELS, CLASSES = 7, 128, 3, 5
Batch = dict[str, Tensor]


def build(**options: object) -> SliceRNN:
    torch.manual_seed(0)
    return SliceRNN(CLASSES, CHANNELS, encoder=ENCODER, dropout=0.0, **options)  # type: ignore[arg-type]


def draw_batch(lengths: list[int], device: torch.device) -> Batch:
    torch.manual_seed(1)
    image = torch.rand(len(lengths), max(lengths), CHANNELS, SIZE, SIZE)
    length = torch.tensor(lengths)
    image[torch.arange(max(lengths)) >= length[:, None]] = 0
    label = torch.arange(len(lengths)) % CLASSES
    batch = {"image": image, "length": length, "label": label}
    return {name: value.to(device) for name, value in batch.items()}


def encode_in_a_loop(net: SliceRNN, batch: Batch) -> Tensor:
    """Encode time step after time step, padding included, and drop the padding afterwards."""
    image, length = batch["image"], batch["length"]
    each = torch.stack([net.encoder(image[:, t]) for t in range(image.shape[1])], 1)
    return each[torch.arange(image.shape[1], device=length.device) < length[:, None]]


def make_ways(batch: Batch, device: torch.device) -> dict[str, Callable[[], None]]:
    """Return a training step of each way."""
    loop, flat, cached = build().to(device), build().to(device), build(freeze_encoder=True)
    flat.to(memory_format=torch.channels_last)
    cached.to(device)
    half = choose_precision("auto") == "bf16-mixed"
    with torch.no_grad():
        features = cached.encode(batch["image"], batch["length"]).float()
    for net in (loop, flat, cached):
        net.train()
    plain = torch.optim.Adam(loop.parameters(), 1e-4)
    fused = torch.optim.AdamW(flat.parameters(), 1e-4, fused=True)
    learned = [p for p in cached.parameters() if p.requires_grad]
    fused_head = torch.optim.AdamW(learned, 1e-4, fused=True)
    clast = batch["image"].flatten(0, 1).contiguous(memory_format=torch.channels_last)
    image = clast.view(batch["image"].shape)

    def step(answer: Callable[[], Tensor], optimizer: torch.optim.Optimizer, half: bool) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = cross_entropy(answer(), batch["label"])
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    def answer_loop() -> Tensor:
        return loop.forward_features(encode_in_a_loop(loop, batch), batch["length"])["logits"]

    def answer_flat() -> Tensor:
        return flat(image, batch["length"])["logits"]

    def answer_cached() -> Tensor:
        return cached.forward_features(features, batch["length"])["logits"]

    return {
        "loop": lambda: step(answer_loop, plain, False),
        "flattened": lambda: step(answer_flat, fused, half),
        "cached": lambda: step(answer_cached, fused_head, half),
    }


def check_same(batch: Batch, device: torch.device) -> None:
    net = build().to(device).eval()
    with torch.no_grad():
        one = net.encode(batch["image"], batch["length"])
        other = encode_in_a_loop(net, batch)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def keep_memory(wanted: bool, device: torch.device) -> None:
    """Switch glibc's allocator between what `medvision train` asks for and its own default."""
    if device.type == "cpu":
        mallopt = ctypes.CDLL(None).mallopt
        if wanted:
            set_allocator("keep")
        else:
            mallopt(-4, 65536), mallopt(-1, 128 * 1024)


def measure(lengths: list[int], device: torch.device) -> Iterator[tuple[str, float]]:
    """Yield way and seconds a step, the ways interleaved; each way's first step warms it up."""
    batch = draw_batch(lengths, device)
    check_same(batch, device)
    ways = make_ways(batch, device)
    for round_ in range(ROUNDS + 2):
        for name, step in ways.items():
            keep_memory(name != "loop", device)
            repeats = 20 if name == "cached" else 1
            start = time.perf_counter()
            for _ in range(repeats):
                step()
            if round_ > 1:
                yield name, (time.perf_counter() - start) / repeats


def main(threads: str = "1") -> None:
    torch.set_num_threads(int(threads))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    process = describe_process(0)
    lines = ["| series a second, training | loop | flattened | cached | flattened ÷ loop "
             "| cached ÷ loop |", "|---" * 6 + "|"]  # fmt: skip
    for name, lengths in SHAPES.items():
        taken: dict[str, list[float]] = {}
        for way, seconds in measure(lengths, device):
            taken.setdefault(way, []).append(seconds)
        rate = {way: len(lengths) / median(each) for way, each in taken.items()}
        ratios = [rate[way] / rate["loop"] for way in ("flattened", "cached")]
        lines.append(f"| {name}, {SIZE}² × {CHANNELS} | " + " | ".join(
            [f"{rate[way]:.1f}" for way in ("loop", "flattened", "cached")]
            + [f"**{ratio:.1f}**" for ratio in ratios]) + " |")  # fmt: skip
    lines += ["", f"Medians of {ROUNDS} interleaved rounds, {today()[:10]}, {process['device']}, "
              f"{threads} thread(s), {choose_precision('auto')}, torch {torch.__version__}. "
              "`python experiments/acdc/throughput.py`"]  # fmt: skip
    print("\n".join(lines))
    if (HERE / "README.md").exists() and "<!-- throughput -->" in (HERE / "README.md").read_text():
        sys.path.insert(0, str(HERE.parent))
        import ledger

        ledger.fill(HERE / "README.md", "throughput", lines)


if __name__ == "__main__":
    main(*sys.argv[1:])

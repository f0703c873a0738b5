"""What may change in a training image (`Augment`) and what was drawn for one batch (`Draws`)."""

import math
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from medvision.augment import intensity, spatial
from medvision.errors import MedvisionError, collect

Array = NDArray[np.float64]

FILLS: Final = ("background", "nearest", "reflect")
RANGES: Final = {
    "rotate_degrees": (0.0, 180.0),
    "shift_y": (0.0, 1.0),
    "shift_x": (0.0, 1.0),
    "scale": (0.0, 0.9),
    "shear_degrees": (0.0, 60.0),
    "gamma": (0.0, 3.0),
    "contrast": (0.0, 1.0),
    "brightness": (0.0, 1.0),
    "blur": (0.0, 10.0),
    "noise": (0.0, 1.0),
    "erase": (0.0, 0.9),
    "probability": (0.0, 1.0),
}
SWITCHES: Final = ("scale_axes_apart", "flip_horizontal", "flip_vertical", "rotate_quarter")
# One place in the stream for each quantity: turning one on never changes another's values.
SLOTS: Final = (
    *("gate", "rotate", "shift_y", "shift_x", "scale_y", "scale_x", "shear"),
    *("flip_horizontal", "flip_vertical", "quarter", "gamma", "contrast", "brightness"),
    *("blur", "noise", "noise_offset", "erase", "erase_y", "erase_x", "unused"),
)

_NOISE_STRIDE: Final = 617_369  # odd: so many starts later in the tape, none comes twice


@dataclass(frozen=True)
class Draws:
    """The changes of one batch of B images, in plain numbers; None = that change is off.

    `changed [B]` tells the images that change at all; the others leave either backend bit for
    bit as they came. `matrix [B,2,3]` leads an output pixel (x, y) to its source; `tone [B,3]` is
    gamma, contrast, brightness; `kernel [B,T]` the blur; `noise [B,2]` its standard deviation
    (images in 0..1) and its place in the noise tape; `box [B,4]` the erased y0, y1, x0, x1.
    """

    size: tuple[int, int]
    fill: str
    changed: NDArray[np.bool_]
    matrix: Array | None
    tone: Array | None
    kernel: Array | None
    noise: Array | None
    box: NDArray[np.int64] | None

    def check(self, images: int, size: tuple[int, ...]) -> None:
        """Refuse a batch these were not drawn for (OpenCV would write its result elsewhere)."""
        if (images, tuple(size)) != (len(self.changed), tuple(self.size)):
            drawn = f"{len(self.changed)} images of {tuple(self.size)}"
            raise ValueError(f"drawn for {drawn}, applied to {images} of {tuple(size)}")

    def with_own_noise(self, number: NDArray[np.int64]) -> "Draws":
        """Return the same changes with other noise for each `number [B]`: slices of one series."""
        if self.noise is None:
            return self
        noise = self.noise.copy()
        noise[:, 1] = (noise[:, 1] + _NOISE_STRIDE * number) % intensity.NOISE_STARTS
        return replace(self, noise=noise)

    def background(self) -> Array:
        """Return the grey `[B]` in 0..1 that zero becomes: what fills borders and boxes."""
        if self.tone is None:
            return np.zeros(len(self.changed))
        return intensity.retouch(np.zeros((len(self.changed), 1)), self.tone)[:, 0]


@dataclass(frozen=True)
class Augment:
    """Random change of training images; every range is symmetric and uniform, 0 or false = off.

    Args:
        rotate_degrees: Largest turn to either side.
        shift_y: Largest shift to either side, as a share of the height.
        shift_x: The same along the width.
        scale: 0.15 draws a factor of 0.85..1.15; above 1 enlarges.
        scale_axes_apart: Each axis draws a factor of its own.
        shear_degrees: Largest horizontal shear to either side.
        flip_horizontal: Mirror left and right in half of the images.
        flip_vertical: Mirror top and bottom in half of the images.
        rotate_quarter: Turn by 0, 90, 180 or 270 degrees (0 or 180 if the image is not square).
        gamma: Exponent exp(u), u within ± this.
        contrast: 0.3 draws a factor of 0.7..1.3 about mid-grey.
        brightness: Largest addition, images in 0..1.
        blur: Largest Gaussian sigma in pixels.
        noise: Largest standard deviation of white Gaussian noise, images in 0..1.
        erase: Largest share of the area that a square of background covers.
        fill: What enters from outside: `background` (black, after the change of tone), `nearest`
            or `reflect`.
        probability: Share of the images that change at all.

    Raises:
        MedvisionError: A value is out of its range or not of its kind; all are named at once.
    """

    rotate_degrees: float = 0.0
    shift_y: float = 0.0
    shift_x: float = 0.0
    scale: float = 0.0
    scale_axes_apart: bool = False
    shear_degrees: float = 0.0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotate_quarter: bool = False
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    erase: float = 0.0
    fill: str = "background"
    probability: float = 1.0

    def __post_init__(self) -> None:
        problems = [text for field in fields(self) if (text := self._problem(field.name))]
        if problems:
            raise collect("augment", problems, "Mend these keys (0, null or false = off).")

    def _problem(self, key: str) -> str:
        value = getattr(self, key)
        if key == "fill":
            return "" if value in FILLS else f"fill={value!r} is none of {', '.join(FILLS)}"
        if value is None and key != "probability":
            object.__setattr__(self, key, False if key in SWITCHES else 0.0)
            return ""
        if key in SWITCHES:
            return "" if isinstance(value, bool) else f"{key}={value!r} is neither true nor false"
        low, high = RANGES[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = number and math.isfinite(value) and low <= value <= high
        return "" if fits else f"{key}={value!r} is not a number from {low:g} to {high:g}"

    def draw(
        self, seed: int, epoch: int, indices: NDArray[np.integer], size: tuple[int, int]
    ) -> Draws:
        """Draw the changes of one batch, a pure function of (seed, epoch, index) for each image.

        Args:
            seed: Of the run; its low 64 bits count.
            epoch: Its low 32 bits count.
            indices: `[B]` ≥ 0; equal indices (the slices of one series) draw equal changes.
            size: Height and width of the images.

        Raises:
            MedvisionError: An image without height or width.
        """
        if min(size) < 1:
            raise MedvisionError(f"Images of size {size} cannot be augmented: give data.size.")
        unit = dict(zip(SLOTS, _uniforms(seed, epoch, np.asarray(indices)), strict=True))
        parts = {
            "matrix": self._matrix(unit, size),
            "tone": self._tone(unit),
            "kernel": intensity.blur_kernels(unit["blur"], self.blur) if self.blur else None,
            "noise": intensity.noise_place(unit, self.noise) if self.noise else None,
        }
        box = spatial.boxes(unit, self.erase, size) if self.erase else None
        on = box is not None or any(part is not None for part in parts.values())
        return Draws(size, self.fill, (unit["gate"] < self.probability) & on, box=box, **parts)

    def _matrix(self, unit: dict[str, Array], size: tuple[int, int]) -> Array | None:
        moves = (self.rotate_degrees, self.shift_y, self.shift_x, self.scale, self.shear_degrees)
        if not (any(moves) or self.flip_horizontal or self.flip_vertical or self.rotate_quarter):
            return None
        turns = 4 if size[0] == size[1] else 2
        linear = spatial.linear(
            turn=np.radians(self.rotate_degrees) * _signed(unit["rotate"]),
            shear=np.radians(self.shear_degrees) * _signed(unit["shear"]),
            scale_y=1 + self.scale * _signed(unit["scale_y"]),
            scale_x=1
            + self.scale * _signed(unit["scale_x" if self.scale_axes_apart else "scale_y"]),
            mirror_y=self.flip_vertical & (unit["flip_vertical"] < 0.5),
            mirror_x=self.flip_horizontal & (unit["flip_horizontal"] < 0.5),
            quarters=self.rotate_quarter * (4 // turns) * np.floor(unit["quarter"] * turns),
        )
        shift_y = self.shift_y * size[0] * _signed(unit["shift_y"])
        shift_x = self.shift_x * size[1] * _signed(unit["shift_x"])
        return spatial.source_matrix(linear, shift_y, shift_x, size)

    def _tone(self, unit: dict[str, Array]) -> Array | None:
        if not (self.gamma or self.contrast or self.brightness):
            return None
        gamma = np.exp(self.gamma * _signed(unit["gamma"]))
        contrast = 1 + self.contrast * _signed(unit["contrast"])
        return np.stack([gamma, contrast, self.brightness * _signed(unit["brightness"])], axis=1)


def _signed(unit: Array) -> Array:
    return 2 * unit - 1


def _uniforms(seed: int, epoch: int, indices: NDArray[np.integer]) -> Array:
    """Return `[len(SLOTS), B]` numbers inside (0, 1): Philox counted by (block, index, epoch)."""
    counter = np.empty((len(SLOTS) // 4, len(indices), 4), np.uint64)
    counter[..., 0] = np.arange(len(counter))[:, None]
    counter[..., 1], counter[..., 2] = indices % 2**32, indices // 2**32
    counter[..., 3] = epoch % 2**32
    words = philox(counter, seed % 2**32, (seed >> 32) % 2**32)
    unit = (words.astype(np.float64) + 0.5) / 2.0**32
    return unit.transpose(0, 2, 1).reshape(len(SLOTS), len(indices))


def philox(counter: NDArray[np.uint64], key0: int, key1: int) -> NDArray[np.uint64]:
    """Turn each counter `[..., 4]` of 32-bit words into four random words (Philox4x32-10).

    numpy's own Philox has one counter an object; this one takes the whole batch at once.

    Reference:
        Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011,
        doi:10.1145/2063384.2063405.
    """
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    factors = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
    words = np.ascontiguousarray(counter.reshape(-1, 4).T)
    even, odd = words[::2], words[1::2]
    for step in range(10):
        keys = ((key0 + step * 0x9E3779B9) % 2**32, (key1 + step * 0xBB67AE85) % 2**32)
        products = (even * factors)[::-1]
        even = (products >> half) ^ odd ^ np.array(keys, np.uint64)[:, None]
        odd = products & low
    return np.stack([even[0], odd[0], even[1], odd[1]], axis=-1).reshape(counter.shape)

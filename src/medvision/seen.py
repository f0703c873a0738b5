"""What a model has seen, and whether rows meet it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from medvision.errors import MedvisionError
from medvision.identity import count
from medvision.trust.user_key import fingerprint, mac, user_key

_PARTS = ("train", "val")
_WHAT = ("patients", "people", "images")
_DIGITS = 32  # of a keyed digest: so many that no two images share them
_OTHER_KEY = "the manifest was not prepared with the model's key"
_OTHER_USER = "the model was made with another key"
_NO_PEOPLE = (
    "patients under other dataset names not checked: prepared before medvision could tell them"
)


@dataclass(frozen=True)
class Shown:
    """Who some rows are of, and what they show.

    Attributes:
        patients: patient under a dataset's name → the same person under any; "": not known.
        images: pixel digests.
        key: fingerprint of the key behind the pseudonyms; None: ids as given.
    """

    patients: Mapping[str, str]
    images: frozenset[str]
    key: str | None


@dataclass(frozen=True)
class Met:
    """What rows share with what a model has seen.

    Attributes:
        patients: seen under the same dataset name.
        namesakes: of equal id, seen under another dataset name: the same people, or chance.
        images: by their digests.
        unchecked: what could not be compared, a sentence each.
    """

    patients: set[str]
    namesakes: set[str]
    images: set[str]
    unchecked: list[str]


@dataclass(frozen=True)
class Seen:
    """What a model met in training and in validation.

    Attributes:
        key: fingerprint of the key behind the pseudonyms; None: ids as given.
        train_people, val_people: the patients once more, equal under every dataset name.
        image_key: fingerprint of the user's key behind the digests of images, without which nobody
            can ask whether an image was among them; None: they are plain, as they were before.
        unknown: what is not known of all this, in sentences that stand on every table.
    """

    train_patients: list[str] = field(default_factory=list)
    train_images: list[str] = field(default_factory=list)
    val_patients: list[str] = field(default_factory=list)
    val_images: list[str] = field(default_factory=list)
    key: str | None = None
    train_people: list[str] = field(default_factory=list)
    val_people: list[str] = field(default_factory=list)
    image_key: str | None = None
    unknown: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, train: Shown, val: Shown) -> "Seen":
        """Write down the two parts that a model meets."""
        plain = cls(
            sorted(train.patients), sorted(train.images), sorted(val.patients), sorted(val.images),
            train.key, _list_people(train), _list_people(val),
        )  # fmt: skip
        return plain._with_keyed_images()

    @classmethod
    def of_plain(cls, shown: Shown) -> "Seen":
        """Hold rows that others are compared with at once, and which no file keeps."""
        return cls(
            sorted(shown.patients), sorted(shown.images), key=shown.key,
            train_people=_list_people(shown),
        )  # fmt: skip

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Seen":
        """Read what a file holds; before `image_key`, ids as given had no dataset."""
        seen = cls(**content)
        if "image_key" in content or seen.key is not None:
            return seen
        return replace(
            seen, train_patients=[], val_patients=[],
            train_people=seen.train_patients, val_people=seen.val_patients,
        )  # fmt: skip

    def to_plain(self) -> dict[str, Any]:
        """Return what a file holds of it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Seen | None":
        """Read what a `record.json` holds; None where it holds nothing."""
        held = record.get("seen")
        if not held:
            return None
        names = {f"{part}_{what}": some for part in _PARTS for what, some in held[part].items()}
        known = {name: held[name] for name in ("image_key", "unknown") if name in held}
        return cls.from_plain(names | known | {"key": record.get("key")})

    def to_record(self) -> dict[str, Any]:
        """Return what a `record.json` holds of it, which says the key itself."""
        parts = {part: {what: getattr(self, f"{part}_{what}") for what in _WHAT} for part in _PARTS}
        return parts | {"image_key": self.image_key, "unknown": self.unknown}

    def meet(self, shown: Shown, train: bool = False) -> Met:
        """Compare with rows; `train`: with what was trained on alone.

        Pseudonyms are compared under one key, ids as given with ids as given.
        """
        patients, people, images = ({*getattr(self, f"train_{what}")} for what in _WHAT)
        if not train:
            patients, people, images = (
                known.union(getattr(self, f"val_{what}"))
                for what, known in zip(_WHAT, (patients, people, images), strict=True)
            )
        comparable = shown.key == self.key
        met = patients & {*shown.patients} if comparable else set()
        equal = {one for one, person in shown.patients.items() if person in people - {""}}
        held = {image for image, stored in self._as_stored(shown.images) if stored in images}
        unchecked = list(self._list_unchecked(shown))
        return Met(met, equal - met if comparable else set(), held, unchecked)

    def knows(self, digests: Sequence[str]) -> list[bool]:
        """Tell of each image by its digest whether it was trained on or chosen on."""
        held = {*self.train_images, *self.val_images}
        stored = dict(self._as_stored(digests))
        return [stored.get(each) in held for each in digests]

    @property
    def asks_images(self) -> bool:
        """Whether this user can ask for an image: its digest is plain, or made with their key."""
        return self.image_key in (None, fingerprint(user_key()))

    def join(self, earlier: "Seen") -> "Seen":
        """Add what the model this one started from has seen; what cannot be kept is told."""
        mine, theirs = self._with_keyed_images(), earlier._with_keyed_images()
        keeps = {
            "patients": mine.key == theirs.key, "people": mine.key == theirs.key,
            "images": mine.image_key == theirs.image_key,
        }  # fmt: skip
        whole: dict[str, Any] = {
            f"{part}_{what}": sorted({
                *getattr(mine, f"{part}_{what}"),
                *(getattr(theirs, f"{part}_{what}") if keeps[what] else ()),
            })
            for part in _PARTS for what in _WHAT
        }  # fmt: skip
        return replace(mine, **whole).stamped([*earlier.unknown, *theirs._list_lost(keeps)])

    def stamped(self, notes: Iterable[str]) -> "Seen":
        """Add sentences that every table says from now on."""
        return replace(self, unknown=list(dict.fromkeys([*self.unknown, *notes])))

    def _with_keyed_images(self) -> "Seen":
        """Replace plain digests by keyed ones."""
        if self.image_key is not None:
            return self
        key = user_key()
        keyed: dict[str, Any] = {
            name: sorted(_key_image(image, key) for image in getattr(self, name))
            for name in ("train_images", "val_images")
        }
        return replace(self, **keyed, image_key=fingerprint(key))

    def _as_stored(self, images: Iterable[str]) -> list[tuple[str, str]]:
        """Pair digests with what stands for them here; [] where that cannot be told."""
        if self.image_key is None:
            return [(image, image) for image in images if image]
        if not self.asks_images:
            return []
        key = user_key()
        return [(image, _key_image(image, key)) for image in images if image]

    def _list_unchecked(self, shown: Shown) -> Iterator[str]:
        """Say what cannot be compared with rows."""
        if shown.key != self.key:
            what = "patients" if self.asks_images else "patients and images"
            yield f"{what} not checked: {_OTHER_KEY}"
            return
        if not self.asks_images:
            yield f"images not checked: {_OTHER_USER}"
        known = {*self.train_patients, *self.val_patients} if self.key is not None else ()
        if known and not (self.train_people and all(shown.patients.values())):
            yield _NO_PEOPLE

    def _list_lost(self, keeps: Mapping[str, bool]) -> Iterator[str]:
        """Say what another model cannot keep of this one."""
        held = {"patients": [*self.train_patients, *self.val_patients, *self.train_people],
                "images": [*self.train_images, *self.val_images]}  # fmt: skip
        if lost := [what for what in held if held[what] and not keeps[what]]:
            yield f"{' and '.join(lost)} not checked against what it learned from: another key"


def refuse_namesakes(what: str, way_out: str) -> MedvisionError:
    """Say that equal ids stand under two dataset names, and what to do."""
    return MedvisionError(
        f"{what}; {way_out}, or say different_patients=true if they are other people, which "
        "stamps every table"
    )


def stamp_namesakes(patients: Collection[str], where: str) -> list[str]:
    """Say that equal ids were taken for different people; nothing where there are none."""
    if not patients:
        return []
    told = f"{count(len(patients), 'patient id')} of {where} under another dataset name"
    return [f"{told}: said to be different patients"]


def _key_image(digest: str, key: bytes) -> str:
    return mac(key, "image", digest)[:_DIGITS]


def _list_people(shown: Shown) -> list[str]:
    return sorted({*shown.patients.values()} - {""})

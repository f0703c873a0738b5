import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from medvision.errors import MedvisionError
from medvision.trust.user_key import fingerprint, key_file, mac, user_key

KEY = bytes(range(32))


@pytest.fixture
def place(tmp_path, monkeypatch):
    path = tmp_path / "config" / "key"
    monkeypatch.setenv("MEDVISION_KEY", str(path))
    return path


def test_key_is_made_once_and_for_its_owner_only(place):
    key = user_key()
    assert len(key) == 32
    assert user_key() == key == place.read_bytes()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_key_lies_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("MEDVISION_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_file() == tmp_path / ".config" / "medvision" / "key"


def test_many_first_uses_agree_on_one_key(place):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: user_key(), range(16)))
    assert keys == {place.read_bytes()}


def test_a_key_of_the_wrong_size_is_kept_and_refused(place):
    place.parent.mkdir()
    place.write_bytes(b"short")
    with pytest.raises(MedvisionError, match=r"no key of medvision \(5 bytes, not 32\); restore"):
        user_key()
    assert place.read_bytes() == b"short"


def test_an_unreadable_key_is_refused(place):
    place.mkdir(parents=True)
    with pytest.raises(MedvisionError, match=r"cannot read your key .*set MEDVISION_KEY=FILE"):
        user_key()


def test_a_key_that_cannot_be_written_names_the_way_out(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "file" / "key"))
    with pytest.raises(MedvisionError, match="MEDVISION_KEY=FILE"):
        user_key()


def test_fingerprint_names_a_key_without_showing_it():
    assert len(fingerprint(KEY)) == 8
    assert fingerprint(KEY) != fingerprint(KEY[::-1])
    assert fingerprint(KEY) not in KEY.hex()


def test_a_mac_is_an_hmac_of_its_purpose_and_parts_which_stay_apart():
    told = b"".join(len(part).to_bytes(8, "little") + part for part in (b"image", b"ab", b"c"))
    assert mac(KEY, "image", "ab", b"c") == hmac.new(KEY, told, hashlib.sha256).hexdigest()
    others = [("image", "a", "bc"), ("imag", "eab", "c"), ("image", "abc"), ("patient", "ab", "c")]
    assert len({mac(KEY, "image", "ab", "c"), *(mac(KEY, *parts) for parts in others)}) == 5

"""Which of two classes is the negative one, guessed from their names."""

import re
import unicodedata
from collections.abc import Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS = _words("""
    0 absence absent control controls ctrl false hc healthy neg negative no none nondiseased
    normal normals nothing unaffected undiseased uninfected unremarkable well
    gesund gesunde gesunder kein keine keiner kontrolle kontrollen kontrollgruppe negativ negative
    nein normalbefund ohne physiologisch unauffallig unauffallige
    aucun aucune controle negatif non normale rien sain saine temoin temoins
    ausente control negativa negativo ningun ninguna ninguno normales saludable sana sano
    assente controllo nessun nessuna nessuno sani normali controlli
    normais nenhum nenhuma sadio saudavel
    geen gezond negatief normaal
    bez brak kontrola negatywny norma normalny prawidlowy ujemny zdrowy
    saglikli yok negatif
    здоров здоровый здоровые контроль нет норма нормальный отрицательный
""")
_MILD = _words("""
    benign benigna benigne benigni benigno benignos benignus bening benin gutartig gutartige
    goedaardig lagodny доброкачественный iyihuylu
""")
_NEGATIONS = _words("""
    no non not without
    kein keine keinen ohne nicht
    aucun aucune pas sans
    ningun ninguna sin
    nessun nessuna senza
    nao nenhum nenhuma sem
    geen niet zonder bez brak без не нет
""")
_VOID = frozenset({"false", "triple", "near", "nahezu", "casi", "presque"})  # not quite the word
_FREE = frozenset({"free", "frei", "libre", "vrij"})  # at the end: tumour-free
_MOST = 2  # words of a name: "normal pressure hydrocephalus" is no normal finding

_HAN = ("正常", "健康", "健常", "阴性", "陰性", "对照", "對照", "対照")
_HAN_MILD = ("良性",)
_HAN_NOT = ("非", "不", "无", "無", "未", "没有", "沒有")
_HAN_NONE = ("なし", "无", "無", "阴", "陰", "否")


def find_negative(names: Sequence[str]) -> str | None:
    """Return which of two names is that of the negative class; None where neither or both are.

    A word of several languages tells it (normal, gesund, sain, sano, 正常, 0), or a name that only
    says no to the other one (`NonCOVID`). Of two, *normal* is more negative than *benign*.
    """
    if len(names) != 2:
        return None
    ranks = [max(_rank(name), _denies(name, other)) for name, other in
             zip(names, reversed(names), strict=True)]  # fmt: skip
    if ranks[0] == ranks[1]:
        return None
    return names[int(ranks[1] > ranks[0])]


def order_classes(names: Sequence[str]) -> list[str]:
    """Return names with the negative one of two in front, as far as their words tell."""
    negative = find_negative(names)
    return sorted(names, key=lambda name: name != negative)


def note_order(names: Sequence[str], found: Sequence[str]) -> str:
    """Say which of two classes is positive by their words or, where these tell nothing, by chance.

    Args:
        names: as ordered, the positive one last.
        found: the same names as they were found, such as by the alphabet.
    """
    negative, positive = names
    if find_negative(names) is None:
        return (
            f"nothing tells which of {negative!r} and {positive!r} is the negative class: "
            f"{positive!r}, the last, is taken as the positive one; say data.classes=[NEGATIVE,"
            "POSITIVE]"
        )
    told = f"the positive class is {positive!r}, for {negative!r} is named as the negative one"
    moved = "" if [*names] == [*found] else ", and stands first though the alphabet has it last"
    return f"{told}{moved} (data.classes orders them)"


def _rank(name: str) -> int:
    """Tell how negative a name is by itself: 2 normal, 1 benign, 0 nothing tells."""
    if re.search("[\u3040-\u9fff]", name):
        return _rank_han(name)
    try:
        return 2 * (float(name) <= 0)
    except ValueError:
        words = _split(name)
    if not words or (len(words) > 1 and _VOID & {*words}):
        return 0
    ends = {words[0], words[-1]} if len(words) <= _MOST else set()
    if len(words) > 1 and words[0] in _NEGATIONS:
        return 0 if {*words[1:]} & (_WORDS | _MILD) else 2
    if words[-1] in _FREE or ends & _WORDS:
        return 2
    return int(bool(ends & _MILD))


def _rank_han(name: str) -> int:
    """Tell the same of Chinese and Japanese, which are written without spaces."""
    for rank, words in ((2, _HAN), (1, _HAN_MILD)):
        for word in words:
            if word in name:
                before = name.partition(word)[0]
                return 0 if before.endswith(_HAN_NOT) else rank
    none = name.startswith((*_HAN_NOT, *_HAN_NONE)) or name.endswith(_HAN_NONE)
    return 2 * none


def _denies(name: str, other: str) -> int:
    """Tell that a name is the other one with a no before it, written as one word."""
    joined, whole = "".join(_split(name)), "".join(_split(other))
    return 2 * any(joined == negation + whole for negation in _NEGATIONS if whole)


def _split(name: str) -> list[str]:
    """Split a name into words without accents: at capitals, digits and what is no letter."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = unicodedata.normalize("NFKD", apart).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.findall(r"[^\W\d_]+|\d+", plain.translate({0x142: "l", 0x131: "i"}))

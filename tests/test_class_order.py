import pytest

from medvision.class_order import find_negative, order_classes


@pytest.mark.parametrize(
    ("names", "negative"),
    [
        (("haemorrhage", "normal"), "normal"),
        (("NORMAL", "PNEUMONIA"), "NORMAL"),
        (("tumor", "no_tumor"), "no_tumor"),
        (("yes", "no"), "no"),
        (("COVID", "NonCOVID"), "NonCOVID"),
        (("covid", "noncovid"), "noncovid"),
        (("Cardiomegaly", "No Finding"), "No Finding"),
        (("benign", "malignant"), "benign"),
        (("benign", "normal"), "normal"),
        (("0", "1"), "0"),
        (("1", "-1"), "-1"),
        (("True", "False"), "False"),
        (("ill", "well"), "well"),
        (("class 1", "class 0"), "class 0"),
        (("positive", "negative"), "negative"),
        (("AD", "healthy control"), "healthy control"),
        (("stroke", "tumour-free"), "tumour-free"),
        (("krank", "gesund"), "gesund"),
        (("auffällig", "unauffällig"), "unauffällig"),
        (("Pneumonie", "ohne Befund"), "ohne Befund"),
        (("bösartig", "gutartig"), "gutartig"),
        (("malade", "sain"), "sain"),
        (("maligne", "bénigne"), "bénigne"),
        (("tumeur", "pas de tumeur"), "pas de tumeur"),
        (("enfermo", "sano"), "sano"),
        (("neumonía", "sin hallazgos"), "sin hallazgos"),
        (("肺炎", "正常"), "正常"),
        (("阳性", "阴性"), "阴性"),
        (("恶性", "良性"), "良性"),
        (("异常", "无异常"), "无异常"),
        (("不正常", "正常"), "正常"),
        (("異常あり", "異常なし"), "異常なし"),
    ],
)
def test_the_negative_class_is_told_by_its_word_in_either_order(names, negative):
    assert find_negative(names) == negative
    assert find_negative(names[::-1]) == negative
    assert order_classes(names)[0] == negative


@pytest.mark.parametrize(
    "names",
    [
        ("adenoma", "carcinoma"),
        ("left", "right"),
        ("1", "2"),
        ("abnormal", "unhealthy"),
        ("normal", "healthy"),
        ("normal pressure hydrocephalus", "clear cell carcinoma"),
        ("triple negative", "luminal"),
        ("not normal", "not healthy"),
        ("非正常", "不健康"),
        ("", "a"),
    ],
)
def test_where_no_word_tells_nothing_is_guessed(names):
    assert find_negative(names) is None
    assert order_classes(names) == list(names)


def test_only_two_classes_have_a_negative_one():
    assert find_negative(("a", "b", "normal")) is None
    assert order_classes(["c", "normal", "a"]) == ["c", "normal", "a"]

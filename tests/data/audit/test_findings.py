import pandas as pd

from medvision.data.audit.findings import note_exclusions


def test_exclusions_of_one_class_are_noted():
    whole = pd.DataFrame({"label": ["ill", "ill", "well", "ill", ""]})
    assert note_exclusions(whole, [0, 3]) == [
        "all 2 images that were left out are of the class 'ill': what is left may be no fair "
        "sample of it"
    ]
    assert note_exclusions(whole, [0, 2]) == []
    assert note_exclusions(whole, [0, 4]) == []

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvision.data.sources.dicom import geometry

AXIAL = (1.0, 0, 0, 0, 1, 0)
angles = st.floats(-3.1, 3.1)


def turn(a, b, c):
    """A rotation of space, `[3,3]`."""
    sines, cosines = np.sin([a, b, c]), np.cos([a, b, c])
    x = np.array([[1, 0, 0], [0, cosines[0], -sines[0]], [0, sines[0], cosines[0]]])
    y = np.array([[cosines[1], 0, sines[1]], [0, 1, 0], [-sines[1], 0, cosines[1]]])
    z = np.array([[cosines[2], -sines[2], 0], [sines[2], cosines[2], 0], [0, 0, 1]])
    return x @ y @ z


@given(angles, angles, angles, st.lists(st.integers(-500, 500), min_size=2, unique=True))
def test_turning_patient_and_plane_together_changes_no_distance(a, b, c, mm):
    turned = turn(a, b, c)
    orientation = np.concatenate([turned[:, 0], turned[:, 1]])
    positions = (turned @ np.array([[7.0, -3, z] for z in mm]).T).T
    assert geometry.is_plane(orientation)
    found = geometry.distances_mm(orientation, positions)
    assert found == pytest.approx(np.array(mm, dtype=float), abs=1e-6)


def test_axial_slices_are_counted_to_the_head_and_a_reversed_row_turns_that_round():
    positions = np.array([[0, 0, 1.0], [0, 0, 2.0]])
    assert geometry.distances_mm(AXIAL, positions).tolist() == [1, 2]
    assert geometry.distances_mm((-1.0, 0, 0, 0, 1, 0), positions).tolist() == [-1, -2]


@pytest.mark.parametrize(
    ("mm", "gaps"),
    [
        ([0, 5, 10, 15], []),
        ([0, 5, 10, 20, 25], [(2, 10.0)]),
        ([0, 5, 15], [(1, 10.0)]),  # the lower median of two steps
        ([0, 0, 5, 5, 10, 10], []),  # places taken twice are no steps
        ([0, 5, 12.4], []),
        ([3], []),
    ],
)
def test_gaps_are_steps_over_one_and_a_half_usual_ones(mm, gaps):
    assert geometry.find_gaps(np.array(mm, dtype=float)) == gaps


def test_places_are_numbered_within_a_thousandth_of_a_mm():
    mm = np.array([0, 0.0005, 0.0025, 1])
    assert geometry.find_places(mm).tolist() == [0, 0, 1, 2]


def test_orientations_differ_from_a_thousandth_of_a_cosine():
    near, far = (1.0, 0.0009, 0, 0, 1, 0), (1.0, 0.0011, 0, 0, 1, 0)
    assert geometry.number_orientations(np.array([AXIAL, near, far, AXIAL])) == [0, 0, 1, 0]


def test_directions_that_are_no_plane_are_told():
    assert not geometry.is_plane((1.0, 0, 0, 1, 0, 0))
    assert not geometry.is_plane((2.0, 0, 0, 0, 1, 0))

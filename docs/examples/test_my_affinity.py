# test_my_affinity.py
import numpy as np
from my_affinity import Agreement

from harness import Spins, UnitSpace, check


def test_a_number_from_theory() -> None:
    # The same spin in 3 of 4 observations: 2 * 3/4 - 1 = 1/2.
    spins = Spins(np.array([[1, 1], [1, 1], [-1, -1], [-1, 1]], dtype=np.int8), UnitSpace.heads([2]))
    assert Agreement()(spins).matrix[0, 1] == 1 / 2
    assert Agreement(power=2)(spins).matrix[0, 1] == 1 / 4


def test_it_keeps_the_contract_of_its_stage() -> None:
    assert check(Agreement) == []

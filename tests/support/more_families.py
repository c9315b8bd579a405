"""The cases of every family beyond S5, S4D and LRU (families.py)."""

from .families_other import OTHER_CASES
from .families_real import REAL_CASES
from .families_s4 import S4_CASES

MORE_CASES = {**S4_CASES, **OTHER_CASES, **REAL_CASES}

"""The attacker's side, and the customers that look strange but are not: what the detector is tried against.

Nothing here knows how the detector decides. Prose and traffic are made by code from a seed; evasions are pure functions
on lists of request events, so that they work on any account's events, composed or real.
"""

import streams  # noqa: F401 - before anything imports numba: it keeps compiled kernels on disk

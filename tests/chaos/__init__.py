"""Faults on purpose, on a real Kafka: `make chaos`. `python -m tests.chaos --list` names the scenarios.

Each scenario is a function with a seed. An oracle knows every record that was sent, and after each run holds what came
out against what an undisturbed run gives (`oracle`). `RESULTS.md` is written by the command.
"""

import streams  # noqa: F401 - before anything imports numba: says where its kernels are kept, for the workers too

"""One statistic a file: its record, its update, its value, and its River estimator."""

from detectors.statistics.cadence import Cadence
from detectors.statistics.coverage import Breadth, Novelty
from detectors.statistics.identity import Duplicates
from detectors.statistics.memory import NearestRemembered
from detectors.statistics.mixture import LongestQuarterRatio
from detectors.statistics.neighbours import NearestLag
from detectors.statistics.order import VonNeumannRatio
from detectors.statistics.recurrence import RepeatShare
from detectors.statistics.shape import LengthRatio, ShortAnswerShare
from detectors.statistics.users import DistinctUsers, UserRatio

__all__ = [
    "Breadth",
    "Cadence",
    "DistinctUsers",
    "Duplicates",
    "LengthRatio",
    "LongestQuarterRatio",
    "NearestLag",
    "NearestRemembered",
    "Novelty",
    "RepeatShare",
    "ShortAnswerShare",
    "UserRatio",
    "VonNeumannRatio",
]

"""The version that stands in the distribution and in each alert."""

VERSION = "0.1.0"

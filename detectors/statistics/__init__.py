"""One statistic a file: its record, its update, its value, and its River estimator."""

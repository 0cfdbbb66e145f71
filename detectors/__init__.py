"""Pure detection: statistics, rivals, baseline, findings. No Kafka, no clock, no files."""

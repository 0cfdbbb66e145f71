"""The wire contract: request events in, alerts and dead letters out."""

"""Every scenario; importing these enters them into `stage.CATALOGUE`, in this order."""

from tests.chaos.scenarios import workers, brokers, logs, pressure  # noqa: I001 - the order of the catalogue

__all__ = ["brokers", "logs", "pressure", "workers"]

"""Settings: what can be set from outside, where it comes from, and how a broker's URL is read and shown."""

from leveret.topology.settings.loading import current, load
from leveret.topology.settings.urls import check_amqp_url, mask, vhost_of
from leveret.topology.settings.values import CHECKOUT, Settings

__all__ = ["CHECKOUT", "Settings", "check_amqp_url", "current", "load", "mask", "vhost_of"]

"""The `tcp` path: requests and responses multiplexed on one TCP connection."""

"""The suite without its checks: the interface of an adapter, the wire, the session of a check, and the runner."""

"""The processes that segment cases, on this machine or on a cluster."""

"""Keeps deferred requests on disk, so that what was accepted outlives the process."""

"""Experiments that try to break things: what differs between machines, what damage does, what weights can lose."""

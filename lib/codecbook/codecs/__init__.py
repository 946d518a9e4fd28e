"""Codecs behind one interface: `load_codec` and what it loads."""

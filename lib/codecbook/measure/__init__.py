"""Measures of audio quality, of information, and of their uncertainty."""

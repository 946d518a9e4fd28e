"""Rules and jobs of a corpus; `workflow/corpus.py` calls them."""

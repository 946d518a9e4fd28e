"""Reports and the index page of a run, as HTML."""

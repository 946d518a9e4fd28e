"""How any model is stored, named and found."""

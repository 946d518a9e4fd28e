"""What notebooks use and nothing else may: parameters, results, provenance, figures, players, reports."""

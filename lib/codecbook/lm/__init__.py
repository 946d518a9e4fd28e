"""Language models over codec tokens: models, corpora, training, scoring, sampling."""

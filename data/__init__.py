"""Something to count: five short texts, a stop word list in nltk's layout, and `fetch` for the real books."""

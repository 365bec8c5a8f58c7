"""The sample tasks: count the words of a book, and search a folder for a treasure."""

from leveret.consumers.samples import treasure, words

__all__ = ["treasure", "words"]

"""leveret and its peers side by side on one broker: see README.md in this folder."""

"""What tasks take, described for other languages."""

"""Keeping what happens to followed tasks, so that anybody may ask for it later."""

"""Schedules: when tasks are submitted by themselves, and who does it."""

"""Following what was submitted: waiting for results, and asking what became of a task."""

"""Following what was submitted: waiting for results, asking what became of a task, and cancelling it."""
